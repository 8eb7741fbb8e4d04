//! What is measured at the batchers, from text to the policy's signals.
//!
//! ```text
//!  GET /metrics ─▶ prometheus_text ─▶ reading (one batcher, one moment) ─▶ history ─▶ policy's Signals
//! ```
//!
//! Missing, stale and NaN are never zero anywhere on this path.

pub mod history;
pub mod prometheus_text;
pub mod reading;
pub mod scrape;

pub use history::{History, Limits};
pub use reading::Reading;
pub use scrape::{HttpScraper, ScrapeError, Scraper};

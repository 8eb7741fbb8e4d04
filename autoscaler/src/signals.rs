//! What is measured at the batchers, from text to the policy's signals.
//!
//! ```text
//!  GET /metrics ─▶ page, by lines ──▶ reading (one batcher, one moment) ─┐
//!  Prometheus ───▶ prometheus ──────▶ reading, with its time ────────────┴▶ choice ─▶ history ─▶ policy's Signals
//! ```
//!
//! Missing, stale and NaN are never zero anywhere on this path, and what cannot be (less than nothing, more than
//! a counter can count) is not known.

pub mod choice;
pub mod history;
pub mod page;
pub mod prometheus;
pub mod prometheus_text;
pub mod reading;
pub mod scrape;
pub mod unread;

pub use choice::{Choice, Dated, choose};
pub use history::{History, Limits};
pub use prometheus::SecondSource;
pub use reading::Reading;
pub use scrape::{HttpScraper, ScrapeError, Scraper};
pub use unread::Unread;

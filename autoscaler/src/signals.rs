//! Reads the batchers' metrics.
//!
//! ```text
//!  GET /metrics ─▶ page, line by line ─▶ collector ─▶ Reading (one batcher, one moment)
//!  Prometheus ───▶ prometheus ─────────▶ collector ─▶ Reading with its time
//! ```
//!
//! Readings become the policy's signals in `sluice_scaling_policy::signals`. Missing, stale and NaN are never zero on
//! this path, and impossible values (negative, larger than a counter can be) count as missing.

mod collector;
mod page;
mod prometheus;
mod prometheus_text;
mod scrape;
mod unread;

#[cfg(test)]
pub(crate) use scrape::fake;

pub(crate) use prometheus::{Prometheus, SecondSource, check_url};
pub(crate) use scrape::{HttpScraper, Scraper};
pub(crate) use unread::UnreadBatchers;

//! The report as one self-contained page.

use super::Report;

/// The page of a run.
pub fn run_page(report: &Report) -> String {
    format!("<!doctype html><pre>{}</pre>", super::text::report(report))
}

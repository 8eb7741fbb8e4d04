//! Bounds of numbers, in the words of a refusal.

use sluice_process::settings::Unit;

/// Checks a number's bounds, both allowed. What is far too large is often another unit, so the unit is named.
///
/// # Errors
/// Names the field, its value and what is allowed.
pub(super) fn within(field: &str, value: u32, least: u32, most: u32) -> Result<(), String> {
    if (least..=most).contains(&value) {
        return Ok(());
    }
    let unit = match Unit::of(field) {
        Unit::Milliseconds => " milliseconds",
        Unit::Seconds => " seconds",
        _ => "",
    };
    Err(format!("{field} is {value}, but must be {least} to {most}{unit}"))
}

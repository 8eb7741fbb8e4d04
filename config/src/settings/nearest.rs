//! "did you mean": serde says which names it expected, the reader wants the one that was meant.

/// Closeness from which on a name may have been meant.
const NEAR: f64 = 0.6;

/// Adds the nearest valid name to serde's message about an unknown field or variant; any other message
/// is returned as it is.
pub fn with_suggestion(message: &str) -> String {
    let names = quoted(message);
    let Some((unknown, expected)) = names.split_first() else { return message.to_owned() };
    let is_about_a_name = message.contains("unknown field") || message.contains("unknown variant");
    match nearest(unknown, expected.iter().copied()) {
        Some(nearest) if is_about_a_name => format!("{message}; did you mean `{nearest}`?"),
        _ => message.to_owned(),
    }
}

/// The name that was probably meant; `None` where none is near.
pub fn nearest<'a>(unknown: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let near = names.into_iter().map(|name| (closeness(unknown, name), name));
    let nearest = near.max_by(|(a, _), (b, _)| a.total_cmp(b));
    nearest.filter(|(closeness, _)| *closeness > NEAR).map(|(_, name)| name)
}

/// 1 for equal names; Jaro-Winkler weighs a common beginning, as field names have.
fn closeness(a: &str, b: &str) -> f64 {
    strsim::jaro_winkler(&a.to_lowercase(), &b.to_lowercase())
}

/// What stands between backticks, in order: the unknown name first, then the expected ones.
fn quoted(message: &str) -> Vec<&str> {
    message.split('`').skip(1).step_by(2).collect()
}

#[cfg(test)]
mod tests {
    use super::with_suggestion;

    #[test]
    fn the_nearest_name_is_suggested_and_far_ones_are_not() {
        let message = "unknown field `maxBatch`, expected one of `listen`, `maxBatchRows`";
        assert!(with_suggestion(message).ends_with("did you mean `maxBatchRows`?"));
        let message = "unknown field `zzz`, expected `listen` or `objective`";
        assert_eq!(with_suggestion(message), message);
        assert_eq!(with_suggestion("invalid type: `x`"), "invalid type: `x`");
    }
}

//! "did you mean": serde says which names it expected, the reader wants the one that was meant.

/// Closeness from which on a name may have been meant.
const NEAR: f64 = 0.6;
/// Longest list of valid names that is shown whole; of a longer one only so many are, the nearest.
const MOST_NAMES: usize = 5;

/// Says serde's message about an unknown field or variant with the nearest valid name, and with the nearest five of
/// the valid names where there are more; any other message is returned as it is.
pub fn with_suggestion(message: &str) -> String {
    if !(message.contains("unknown field") || message.contains("unknown variant")) {
        return message.to_owned();
    }
    let names = quoted(message);
    let Some((unknown, expected)) = names.split_first() else { return message.to_owned() };
    let message = match message.split_once("expected one of ") {
        Some((before, _)) if expected.len() > MOST_NAMES => format!(
            "{before}expected one of {} names, of which these are the nearest: {}",
            expected.len(),
            listed(&nearest_first(unknown, expected.iter().copied())[..MOST_NAMES])
        ),
        _ => message.to_owned(),
    };
    match nearest(unknown, expected.iter().copied()) {
        Some(nearest) => format!("{message}; did you mean `{nearest}`?"),
        None => message,
    }
}

/// The name that was probably meant; `None` where none is near.
pub fn nearest<'a>(unknown: &str, names: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    nearest_within(unknown, names, NEAR)
}

/// The same for a reader who may mean something else altogether: only names that are at least so close, 0 to 1.
pub fn nearest_within<'a>(
    unknown: &str,
    names: impl IntoIterator<Item = &'a str>,
    least: f64,
) -> Option<&'a str> {
    let near = names.into_iter().map(|name| (closeness(unknown, name), name));
    let nearest = near.max_by(|(a, _), (b, _)| a.total_cmp(b));
    nearest.filter(|(closeness, _)| *closeness > least).map(|(_, name)| name)
}

/// Names between backticks, separated by commas.
pub fn listed(names: &[&str]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

fn nearest_first<'a>(unknown: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut names: Vec<_> = names.into_iter().map(|name| (closeness(unknown, name), name)).collect();
    names.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    names.into_iter().map(|(_, name)| name).collect()
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

    #[test]
    fn of_many_names_the_nearest_five_are_shown() {
        let names: Vec<String> = (0..70).map(|number| format!("`setting{number}`")).collect();
        let message =
            format!("unknown field `objectivMs`, expected one of {}, `objectiveMs`", names.join(", "));
        let said = with_suggestion(&message);
        assert_eq!(said.matches("`setting").count(), 4, "{said}");
        assert!(said.contains("expected one of 71 names"), "{said}");
        assert!(said.ends_with("did you mean `objectiveMs`?"), "{said}");
    }
}

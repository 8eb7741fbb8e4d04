//! Which texts an object may have where they become part of a path, a URL or a line: checked by the API server by
//! their patterns, and here once more for objects that come another way.

use sluice_process::printable::{is_printable, printable};

/// A DNS subdomain, as Kubernetes wants most names.
pub(super) const NAME: &str = "^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$";
/// A kind.
pub(super) const KIND: &str = "^[A-Za-z][A-Za-z0-9]*$";
/// A version, after its group where it has one.
pub(super) const API_VERSION: &str = "^([a-z0-9]([-a-z0-9.]*[a-z0-9])?/)?[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// Letters, marks, digits, punctuation, symbols and spaces: all that shows.
pub(super) const SHOWN: &str = r"^[\p{L}\p{M}\p{N}\p{P}\p{S} ]+$";
/// Longest name.
pub(super) const MOST_NAME: usize = 253;
/// Longest kind.
pub(super) const MOST_KIND: usize = 63;
/// Characters of a value that an error repeats.
const MOST_REPEATED: usize = 64;

/// Whether it matches [`NAME`].
pub(super) fn is_name(text: &str) -> bool {
    is_made_of(text, |c| c.is_ascii_lowercase() || c.is_ascii_digit(), |c| c == '-' || c == '.')
}

/// Whether it matches [`KIND`].
pub(super) fn is_kind(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphabetic()) && text.chars().all(|c| c.is_ascii_alphanumeric())
}

/// Whether it matches [`API_VERSION`].
pub(super) fn is_api_version(text: &str) -> bool {
    let (group, version) =
        text.split_once('/').map_or((None, text), |(group, version)| (Some(group), version));
    group.is_none_or(is_name) && is_name(version) && !version.contains('.')
}

/// Whether all of it shows.
pub(super) fn is_shown(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_printable)
}

fn is_made_of(text: &str, at_ends: impl Fn(char) -> bool, inside: impl Fn(char) -> bool) -> bool {
    text.starts_with(&at_ends) && text.ends_with(&at_ends) && text.chars().all(|c| at_ends(c) || inside(c))
}

/// Checks one field.
///
/// # Errors
/// Names the field, the begin of its value and what is allowed.
pub(super) fn check(
    field: &str,
    text: &str,
    most: usize,
    is_valid: fn(&str) -> bool,
    allowed: &str,
) -> Result<(), String> {
    if text.is_empty() {
        return Err(format!("spec.{field} is empty"));
    }
    if text.chars().count() <= most && is_valid(text) {
        return Ok(());
    }
    let begin: String = text.chars().take(MOST_REPEATED).collect();
    let more = if begin.len() < text.len() { "…" } else { "" };
    Err(format!("spec.{field} is \"{}{more}\", but must be {allowed}, 1 to {most} long", printable(&begin)))
}

#[cfg(test)]
mod tests {
    use proptest::string::string_regex;

    use super::*;

    proptest::proptest! {
        #![proptest_config(proptest::test_runner::Config::with_cases(128))]

        /// What the API server takes is taken here too.
        #[test]
        fn whatever_matches_a_pattern_is_valid(
            name in string_regex(NAME.trim_matches(['^', '$'])).unwrap(),
            kind in string_regex(KIND.trim_matches(['^', '$'])).unwrap(),
            version in string_regex(API_VERSION.trim_matches(['^', '$'])).unwrap(),
            shown in string_regex(SHOWN.trim_matches(['^', '$'])).unwrap(),
        ) {
            proptest::prop_assert!(is_name(&name), "{name}");
            proptest::prop_assert!(is_kind(&kind), "{kind}");
            proptest::prop_assert!(is_api_version(&version), "{version}");
            proptest::prop_assert!(is_shown(&shown), "{shown:?}");
        }
    }

    #[test]
    fn what_leaves_a_path_or_a_line_is_not_valid() {
        for evil in ["../x", "..", "a/b", "a\nb", "a b", "A", "-a", "a-", "", "é", "a%2fb"] {
            assert!(!is_name(evil), "{evil:?}");
        }
        for evil in ["apps/v1/x", "/v1", "apps/", "../v1", "v1.2", "apps/v1\n"] {
            assert!(!is_api_version(evil), "{evil:?}");
        }
        for good in ["v1", "apps/v1", "argoproj.io/v1alpha1", "leaderworkerset.x-k8s.io/v1"] {
            assert!(is_api_version(good), "{good}");
        }
        assert!(is_kind("Deployment") && !is_kind("De-ployment") && !is_kind("1D"));
    }
}

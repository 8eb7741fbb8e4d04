//! Which log filters are taken. The filter library reads a word that is no level as the name of a target and leaves
//! everything else out, so `warning` would silence a program; here it is refused.

use crate::settings::nearest_within;

/// Levels as the filter library reads them, in any case of letters.
const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// The same as numbers.
const NUMBERS: [&str; 6] = ["0", "1", "2", "3", "4", "5"];
/// Words of other log libraries.
const ELSEWHERE: [(&str, &str); 12] = [
    ("warning", "warn"),
    ("err", "error"),
    ("critical", "error"),
    ("crit", "error"),
    ("fatal", "error"),
    ("panic", "error"),
    ("notice", "info"),
    ("information", "info"),
    ("verbose", "debug"),
    ("all", "trace"),
    ("none", "off"),
    ("quiet", "error"),
];
/// Crates of the programs: what their targets begin with.
const CRATES: [&str; 15] = [
    "sluice_autoscaler",
    "sluice_batch_policy",
    "sluice_batcher",
    "sluice_config",
    "sluice_driver",
    "sluice_inventory",
    "sluice_inventory_watch",
    "sluice_kubelet_api",
    "sluice_loadtest",
    "sluice_nvml_sim",
    "sluice_preloader",
    "sluice_protocol",
    "sluice_scaling_policy",
    "sluice_testbed",
    "kubectl_sluice",
];
/// Closeness from which on a word is taken for a misspelt one.
const LIKELY: f64 = 0.8;

/// Checks each part of a filter.
///
/// # Errors
/// Names the part, and what was probably meant.
pub(super) fn check(filter: &str) -> Result<(), String> {
    if filter.split(',').all(|part| part.trim().is_empty()) {
        return Err(format!("is empty; use one of {}", LEVELS.join(", ")));
    }
    // Inside braces a comma separates fields of a span.
    if filter.contains(['[', '{']) {
        return Ok(());
    }
    filter.split(',').filter(|part| !part.is_empty()).try_for_each(part)
}

fn part(part: &str) -> Result<(), String> {
    match part.split_once('=') {
        Some((target, word)) => {
            is_target(target)?;
            level(word)
        }
        None if is_level(part) => Ok(()),
        // A bare target is every level of it, and nothing else.
        None if part.contains("::") || CRATES.contains(&part) => is_target(part),
        None => level(part),
    }
}

fn is_level(word: &str) -> bool {
    LEVELS.iter().any(|level| level.eq_ignore_ascii_case(word)) || NUMBERS.contains(&word)
}

fn level(word: &str) -> Result<(), String> {
    if is_level(word) {
        return Ok(());
    }
    let lower = word.to_lowercase();
    let elsewhere = ELSEWHERE.iter().find(|(other, _)| *other == lower).map(|(_, level)| *level);
    let meant = match elsewhere.or_else(|| nearest_within(&lower, LEVELS, LIKELY)) {
        Some(level) => format!("; did you mean `{level}`?"),
        None => String::new(),
    };
    Err(format!("`{word}` is no level; use one of {}, or target=level,…{meant}", LEVELS.join(", ")))
}

/// Targets of other libraries are theirs to name; one of Sluice's must be there, or the filter does nothing.
fn is_target(target: &str) -> Result<(), String> {
    let first = target.split("::").next().unwrap_or_default();
    if !first.contains("sluice") || CRATES.contains(&first) {
        return Ok(());
    }
    let meant = match nearest_within(first, CRATES, LIKELY) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => String::new(),
    };
    Err(format!("there is no target `{first}`{meant}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_that_do_something_are_taken() {
        for filter in [
            "info",
            "WARN",
            "3",
            "off",
            "warn,sluice_driver=debug",
            "sluice_batcher=debug",
            "sluice_batcher::queue=trace,hyper=off",
            "sluice_batcher",
            "kube::client",
            "info,[request{id=7}]=trace",
        ] {
            assert_eq!(check(filter), Ok(()), "{filter}");
            assert!(tracing_subscriber::EnvFilter::try_new(filter).is_ok(), "{filter}");
        }
    }

    #[test]
    fn a_word_that_would_silence_a_program_is_refused_with_what_was_meant() {
        for (filter, meant) in [
            ("warning", "`warn`"),
            ("WARNING", "`warn`"),
            ("inof", "`info`"),
            ("verbose", "`debug`"),
            ("fatal", "`error`"),
            ("sluice_batcher=debgu", "`debug`"),
            ("sluice_batcher=warning,info", "`warn`"),
            ("sluice_bacher=debug", "`sluice_batcher`"),
            ("sluice-batcher=debug", "`sluice_batcher`"),
            ("info,warning", "`warn`"),
        ] {
            let problem = check(filter).unwrap_err();
            assert!(problem.contains(&format!("did you mean {meant}?")), "{filter}: {problem}");
        }
        for filter in ["", ",", "hyper", "6", "everything"] {
            assert!(check(filter).unwrap_err().contains("use one of off, error, warn"), "{filter}");
        }
    }
}

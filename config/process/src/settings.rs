//! Settings from a YAML file, the environment and flags, with one precedence for every program:
//! flags over environment over file over defaults.
//!
//! A program has one settings struct (serde, `deny_unknown_fields`, `default`) and one struct of flags
//! (clap, all fields optional, with `env`); fields of the same name are the same setting. clap puts the
//! flag over the environment, [`load`] puts both over the file, serde fills in the defaults.

mod nearest;
mod units;
mod words;

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

pub use nearest::{listed, nearest, nearest_within, with_suggestion};
pub use units::{Unit, meant, share_as_percent};
pub use words::from_value;

/// Exit code of a program whose settings or usage are wrong (`EX_USAGE` of sysexits.h).
pub const EXIT_USAGE: u8 = 64;

/// Why settings are not valid: field, place, and what would be allowed.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The file cannot be read.
    #[error("settings file {path}: {source}")]
    Unreadable {
        /// The file named by `--config`.
        path: PathBuf,
        /// Error of the system.
        source: std::io::Error,
    },
    /// The file's content is not valid.
    #[error("settings file {path}: {message}")]
    File {
        /// The file named by `--config`.
        path: PathBuf,
        /// Field, place and nearest valid name.
        message: String,
    },
    /// A flag or an environment variable has a value that is not valid.
    #[error("flags and environment: {0}")]
    Flags(String),
}

/// Reads `file` (if given), puts `flags` over it and fills in the defaults of `S`.
///
/// `flags` may be any struct; fields that are `None` leave the file's value as it is.
///
/// # Errors
/// Names the file, the field, its place and the nearest valid name.
pub fn load<S: DeserializeOwned>(file: Option<&Path>, flags: &impl Serialize) -> Result<S, SettingsError> {
    let mut merged = match file {
        Some(path) => read_file::<S>(path)?,
        None => Map::new(),
    };
    let flags = serde_json::to_value(flags).map_err(|error| SettingsError::Flags(error.to_string()))?;
    if let Value::Object(flags) = flags {
        merged.extend(flags.into_iter().filter(|(_, value)| !value.is_null()));
    }
    from_value(Value::Object(merged)).map_err(SettingsError::Flags)
}

/// Returns the file as a map, after checking it as `S`: only then are line and column known.
fn read_file<S: DeserializeOwned>(path: &Path) -> Result<Map<String, Value>, SettingsError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
    if text.lines().all(|line| line.trim().is_empty() || line.trim_start().starts_with('#')) {
        return Ok(Map::new());
    }
    let invalid = |message: String| SettingsError::File { path: path.to_owned(), message };
    let map: Map<String, Value> =
        serde_saphyr::from_str(&text).map_err(|error| invalid(error.without_snippet().to_string()))?;
    // The YAML reader knows the place, serde_json's message quotes the names: the error needs both.
    if let Err(error) = serde_saphyr::from_str::<S>(&text) {
        let place = error
            .location()
            .map_or(String::new(), |at| format!("line {} column {}: ", at.line(), at.column()));
        let message = match from_value::<S>(Value::Object(map)) {
            Err(message) => message,
            Ok(_) => error.without_snippet().to_string(),
        };
        return Err(invalid(format!("{place}{message}")));
    }
    // YAML lets a bare 7 stand for the text "7"; the map knows it as a number, and with flags over it the error
    // would be blamed on them.
    from_value::<S>(Value::Object(map.clone())).map_err(|message| {
        let is_text = message.contains("expected a string") || message.contains("expected path");
        let quotes = if is_text { "; put quotes around a text that looks like another type" } else { "" };
        invalid(format!("{message}{quotes}"))
    })?;
    Ok(map)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
    struct Example {
        objective_ms: u64,
        max_batch_rows: usize,
    }

    impl Default for Example {
        fn default() -> Self {
            Self { objective_ms: 100, max_batch_rows: 64 }
        }
    }

    #[derive(Default, Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Flags {
        objective_ms: Option<u64>,
    }

    fn file(text: &str) -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("settings.yaml");
        std::fs::write(&path, text).unwrap();
        (dir, path)
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_the_default() {
        let (_dir, path) = file("objectiveMs: 200\nmaxBatchRows: 8\n");
        let flags = Flags { objective_ms: Some(300) };
        let loaded: Example = load(Some(&path), &flags).unwrap();
        assert_eq!(loaded, Example { objective_ms: 300, max_batch_rows: 8 });
        let loaded: Example = load(Some(&path), &Flags::default()).unwrap();
        assert_eq!(loaded.objective_ms, 200);
        let loaded: Example = load(None, &Flags::default()).unwrap();
        assert_eq!(loaded, Example::default());
    }

    #[test]
    fn a_file_of_comments_is_an_empty_one() {
        let (_dir, path) = file("# nothing yet\n\n");
        let loaded: Example = load(Some(&path), &Flags::default()).unwrap();
        assert_eq!(loaded, Example::default());
    }

    #[test]
    fn an_unknown_field_is_named_with_its_place_and_the_nearest_valid_one() {
        let (_dir, path) = file("objectiveMs: 200\nmaxBatchRow: 8\n");
        let error = load::<Example>(Some(&path), &Flags::default()).unwrap_err().to_string();
        assert!(error.contains("maxBatchRow"), "{error}");
        assert!(error.contains("did you mean `maxBatchRows`?"), "{error}");
        assert!(error.contains("line 2"), "{error}");
    }

    #[test]
    fn a_text_that_looks_like_a_number_is_refused_as_the_files_and_not_the_flags() {
        #[derive(Debug, Default, Deserialize)]
        #[serde(default)]
        struct Named {
            name: String,
        }
        let (_dir, path) = file("name: 1234\n");
        let error = load::<Named>(Some(&path), &Flags::default()).unwrap_err().to_string();
        assert!(
            error.contains("settings.yaml") && error.contains("1234") && error.contains("quotes"),
            "{error}"
        );
        let (_dir, path) = file("name: '1234'\n");
        assert_eq!(load::<Named>(Some(&path), &Flags::default()).unwrap().name, "1234");
    }

    #[test]
    fn a_wrong_value_is_named_with_its_field_and_what_is_allowed() {
        #[derive(Debug, Deserialize)]
        #[serde(rename_all = "lowercase")]
        enum Choice {
            On,
            Off,
        }
        #[derive(Debug, Deserialize)]
        struct Inner {
            _rows: Vec<u32>,
        }
        #[derive(Debug, Deserialize)]
        struct Outer {
            _choice: Option<Choice>,
            _inner: Option<Inner>,
        }
        let _ = [Choice::On, Choice::Off];
        let error = |text| {
            let (_dir, path) = file(text);
            load::<Outer>(Some(&path), &Flags::default()).unwrap_err().to_string()
        };
        let choice = error("_choice: maybe\n");
        assert!(choice.contains("_choice: unknown variant `maybe`, expected `on` or `off`"), "{choice}");
        let deep = error("_inner:\n  _rows: [1, -2]\n");
        assert!(deep.contains("_inner._rows[1]: ") && deep.contains("-2"), "{deep}");
    }

    #[test]
    fn a_missing_file_is_named() {
        let error = load::<Example>(Some(Path::new("/nonexistent/x.yaml")), &Flags::default()).unwrap_err();
        assert!(error.to_string().contains("/nonexistent/x.yaml"));
    }
}

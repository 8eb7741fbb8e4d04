//! What serde says of a wrong value, said to whoever wrote it.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::nearest::with_suggestion;
use super::units::{Unit, meant};

/// Types of numbers as serde names them, with their largest value; 0 where a fraction is allowed.
const NUMBERS: [(&str, u64); 8] = [
    ("u8", u8::MAX as u64),
    ("u16", u16::MAX as u64),
    ("u32", u32::MAX as u64),
    ("u64", u64::MAX),
    ("usize", usize::MAX as u64),
    ("i32", i32::MAX as u64),
    ("i64", i64::MAX as u64),
    ("f64", 0),
];

/// `value` as a `T`, strictly.
///
/// # Errors
/// Names the field with its path, the value, and what to write instead.
pub fn from_value<T: DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_path_to_error::deserialize(value).map_err(|error| {
        let path = error.path().to_string();
        let said = error.inner().to_string();
        // The field that holds the value, where that is one of a list.
        let field = path.rsplit('.').next().and_then(|last| last.split('[').next()).unwrap_or_default();
        let message = number_in_words(field, &said)
            .or_else(|| address_in_words(&said))
            .unwrap_or_else(|| with_suggestion(&said));
        match path.as_str() {
            // The top level: the message names the field itself.
            "." => message,
            path if message.contains(&format!("`{path}`")) => message,
            path => format!("{path}: {message}"),
        }
    })
}

/// `invalid type: string "300ms", expected u64` as it is meant; `None` where no number was expected.
fn number_in_words(field: &str, said: &str) -> Option<String> {
    let (found, expected) = said.rsplit_once(", expected ")?;
    let &(_, most) = NUMBERS.iter().find(|(name, _)| *name == expected)?;
    let (kind, text) = found.split_once(": ")?.1.split_once([' ', '`', '"'])?;
    let text = text.trim_matches(['`', '"']);
    let words = Unit::of(field).words();
    Some(match kind {
        "string" => {
            let wanted = meant(field, text).unwrap_or_else(|| format!("{words}, such as {}", example(field)));
            format!("{wanted}; it is {text:?}, a text")
        }
        "floating" => {
            let number = text.trim_start_matches("point").trim_matches([' ', '`']);
            format!("{words}, and a whole number; it is {number}")
        }
        "integer" if text.starts_with('-') => format!("{words}, 0 or more; it is {text}"),
        "integer" => format!("{words}, at most {most}; it is {text}"),
        _ => return None,
    })
}

fn example(field: &str) -> String {
    meant(field, "8 ?").and_then(|told| told.rsplit(' ').next().map(str::to_owned)).unwrap_or_default()
}

/// Addresses of listeners.
fn address_in_words(said: &str) -> Option<String> {
    said.contains("socket address")
        .then(|| format!("{said}; write an IP address and a port, such as 127.0.0.1:8080"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;
    use serde_json::json;

    #[derive(Debug, Default, Deserialize)]
    #[serde(rename_all = "camelCase", deny_unknown_fields, default)]
    struct Example {
        tick_ms: u64,
        rows: u32,
        listen: Option<std::net::SocketAddr>,
        inner: Option<Box<Example>>,
    }

    fn error(value: Value) -> String {
        from_value::<Example>(value).unwrap_err()
    }

    #[test]
    fn a_number_of_another_form_is_told_with_what_to_write() {
        for (value, told) in [
            (json!({"tickMs": "300ms"}), "tickMs: milliseconds without a unit: 300; it is \"300ms\", a text"),
            (json!({"tickMs": 0.5}), "tickMs: milliseconds without a unit, and a whole number; it is 0.5"),
            (json!({"tickMs": -5}), "tickMs: milliseconds without a unit, 0 or more; it is -5"),
            (
                json!({"rows": 5_000_000_000_u64}),
                "rows: a number without a unit, at most 4294967295; it is 5000000000",
            ),
            (json!({"rows": "many"}), "rows: a number without a unit, such as 8; it is \"many\", a text"),
            (
                json!({"inner": {"tickMs": "1s"}}),
                "inner.tickMs: milliseconds without a unit: 1000; it is \"1s\", a text",
            ),
        ] {
            assert_eq!(error(value), told);
        }
        assert!(error(json!({"listen": "8080"})).ends_with("such as 127.0.0.1:8080"));
        assert!(error(json!({"tickMS": 5})).ends_with("did you mean `tickMs`?"));
    }
}

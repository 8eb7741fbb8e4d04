//! Makes untrusted text safe for a terminal and for line-based logs: characters that move the cursor, hide text, change its
//! direction or begin a line are written as their numbers.

use std::borrow::Cow;
use std::fmt::Write;

/// Returns whether the character displays as itself, without other effects.
pub fn is_printable(character: char) -> bool {
    let hides = matches!(
        character,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}'
    );
    !character.is_control() && !hides
}

/// Escapes the text onto one line: `\u{1b}` for an escape, `\n` for the end of a line.
pub fn printable(text: &str) -> Cow<'_, str> {
    escaped(
        text,
        |_| false,
        |character, out| match character {
            '\n' => out.push_str("\\n"),
            other => as_number(other, out),
        },
    )
}

/// Escapes a text but keeps its lines.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    escaped(text, |character| character == '\n', as_number)
}

/// Escapes JSON without changing its meaning: such characters occur in its strings alone.
pub fn printable_json(json: &str) -> Cow<'_, str> {
    escaped(
        json,
        |character| character == '\n',
        |character, out| {
            for half in character.encode_utf16(&mut [0; 2]) {
                let _ = write!(out, "\\u{half:04x}");
            }
        },
    )
}

fn as_number(character: char, out: &mut String) {
    let _ = write!(out, "\\u{{{:x}}}", u32::from(character));
}

fn escaped(text: &str, also: impl Fn(char) -> bool, write: impl Fn(char, &mut String)) -> Cow<'_, str> {
    let is_safe = |character: char| is_printable(character) || also(character);
    if text.chars().all(is_safe) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if is_safe(character) { out.push(character) } else { write(character, &mut out) }
    }
    Cow::Owned(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_would_follow_is_written_as_its_number() {
        let evil = "a\u{1b}[2J\nb\u{9b}c\u{202e}d\u{7}\r\u{200b}é";
        let safe = "a\\u{1b}[2J\\nb\\u{9b}c\\u{202e}d\\u{7}\\u{d}\\u{200b}é";
        assert_eq!(printable(evil), safe);
        assert_eq!(printable_lines("a\nb\r"), "a\nb\\u{d}");
        assert!(matches!(printable("plain 日本 text"), Cow::Borrowed(_)));
    }

    #[test]
    fn json_keeps_its_meaning() {
        let evil = "a\u{9b}\u{202e}\u{e0041}\u{7f}";
        let json = format!("{{\n  \"x\": \"{evil}\"\n}}");
        let safe = printable_json(&json);
        assert!(safe.chars().all(|c| c == '\n' || is_printable(c)), "{safe}");
        let read: serde_json::Value = serde_json::from_str(&safe).unwrap();
        assert_eq!(read["x"], evil);
    }

    proptest::proptest! {
        #[test]
        fn nothing_but_what_shows_is_left(text: String) {
            proptest::prop_assert!(printable(&text).chars().all(is_printable));
        }
    }
}

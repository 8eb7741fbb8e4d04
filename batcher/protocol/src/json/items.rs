//! Iterates over the items of an array and the members of an object without parsing their values.
//!
//! As in `lexer`, the text has passed a JSON parser before. Unlike `lexer`, this module also knows objects, which never
//! occur in tensors' data.

use std::ops::Range;

use super::lexer::string_length;

/// Returns the ranges of the items in an array's text (brackets included); nothing where the text is not an array.
pub(crate) fn items(text: &[u8]) -> impl Iterator<Item = Range<usize>> {
    Values { text, at: after(text, b'[') }
}

/// Returns the ranges of the members in an object's text (braces included): of the name's string literal and of the value.
pub(crate) fn members(text: &[u8]) -> impl Iterator<Item = (Range<usize>, Range<usize>)> {
    let mut values = Values { text, at: after(text, b'{') };
    std::iter::from_fn(move || {
        let name = values.next()?;
        values.at = after(&text[values.at..], b':') + values.at;
        Some((name, values.next()?))
    })
}

/// Returns the dimensions of nested arrays, measured along the first item of each level; empty where the text is not an
/// array.
pub(crate) fn dimensions(mut text: &[u8]) -> Vec<u64> {
    let mut dimensions = Vec::new();
    while is_array(text) {
        let mut level = items(text);
        let first = level.next();
        dimensions.push(u64::from(first.is_some()) + level.count() as u64);
        match first {
            Some(first) => text = &text[first],
            None => break,
        }
    }
    dimensions
}

/// Returns how deep brackets and braces are nested.
pub(crate) fn depth(text: &[u8]) -> usize {
    let (mut depth, mut deepest) = (0usize, 0usize);
    for byte in structure(text) {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

/// Counts the scalars of a value at any depth; an empty array or object counts as one.
pub(crate) fn scalars(text: &[u8]) -> u64 {
    1 + structure(text).filter(|byte| *byte == b',').count() as u64
}

/// Returns the bytes outside of strings.
fn structure(text: &[u8]) -> impl Iterator<Item = u8> {
    let mut at = 0;
    std::iter::from_fn(move || {
        while text.get(at) == Some(&b'"') {
            at += string_length(&text[at..]);
        }
        at += 1;
        text.get(at - 1).copied()
    })
}

/// Returns whether a value is an array.
pub(crate) fn is_array(text: &[u8]) -> bool {
    text.first() == Some(&b'[')
}

/// Returns whether a value is an object.
pub(crate) fn is_object(text: &[u8]) -> bool {
    text.first() == Some(&b'{')
}

/// Decodes the string literal of a member's name; `None` where it is not a string.
pub(crate) fn name(literal: &[u8]) -> Option<String> {
    serde_json::from_slice(literal).ok()
}

/// Returns the position behind `mark` and the blanks before it; the end of the text where another byte comes first.
fn after(text: &[u8], mark: u8) -> usize {
    let blanks = text.len() - text.trim_ascii_start().len();
    if text.get(blanks) == Some(&mark) { blanks + 1 } else { text.len() }
}

/// Iterator over the ranges of values with commas between them, up to the bracket that closes their level.
struct Values<'a> {
    text: &'a [u8],
    at: usize,
}

impl Iterator for Values<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        while let Some(b' ' | b'\n' | b'\r' | b'\t' | b',') = self.text.get(self.at) {
            self.at += 1;
        }
        let start = self.at;
        let mut depth = 0usize;
        while let Some(&byte) = self.text.get(self.at) {
            match byte {
                b'"' => {
                    self.at += string_length(&self.text[self.at..]);
                    if depth == 0 {
                        break;
                    }
                    continue;
                }
                b'[' | b'{' => depth += 1,
                b']' | b'}' if depth == 0 => break,
                b']' | b'}' => {
                    depth -= 1;
                    if depth == 0 {
                        self.at += 1;
                        break;
                    }
                }
                b',' | b':' | b' ' | b'\n' | b'\r' | b'\t' if depth == 0 => break,
                _ => {}
            }
            self.at += 1;
        }
        (self.at > start).then_some(start..self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(text: &str) -> Vec<&str> {
        items(text.as_bytes()).map(|item| &text[item]).collect()
    }

    #[test]
    fn items_of_any_kind_are_found() {
        assert_eq!(
            texts(r#"[ 1 ,{"a":[1,{"]":"}"}], "b" : 2} , "x,]\"" , [ ] , null,NaN ]"#),
            ["1", r#"{"a":[1,{"]":"}"}], "b" : 2}"#, r#""x,]\"""#, "[ ]", "null", "NaN"]
        );
        for empty in ["[]", "[ ]", "{}", "7"] {
            assert!(texts(empty).is_empty(), "{empty}");
        }
    }

    #[test]
    fn members_are_names_and_values() {
        let text = r#"{ "a" : [1, 2] ,"b\"":{"c":3},"d":-Infinity}"#;
        let found: Vec<_> =
            members(text.as_bytes()).map(|(name, value)| (&text[name], &text[value])).collect();
        assert_eq!(found, [("\"a\"", "[1, 2]"), (r#""b\"""#, r#"{"c":3}"#), ("\"d\"", "-Infinity")]);
        assert_eq!(members(b"{ }").count(), 0);
    }

    #[test]
    fn dimensions_follow_the_first_items() {
        assert_eq!(dimensions(b"[[[1,2]],[[3,4]],[[5,6]]]"), [3, 1, 2]);
        assert_eq!(dimensions(b"[]"), [0]);
        assert_eq!(dimensions(b"[{\"a\":[1]}]"), [1]);
        assert_eq!(dimensions(b"5"), [0; 0]);
        assert_eq!(scalars(br#"{"a":[1,2,",,"],"b":[[3],[4]]}"#), 5);
        assert_eq!(depth(br#"[{"a[[":[1]},2]"#), 3);
    }
}

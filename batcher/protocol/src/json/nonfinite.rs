//! `NaN`, `Infinity` and `-Infinity` in JSON: they are not valid JSON, but Triton, TensorFlow Serving and Python's `json`
//! read and write them.

use super::lexer::string_length;

/// Replaces each bare `NaN` and `Infinity` of a text by digits of the same length, so that a strict parser reads it and all
/// positions stay; returns the new text and the positions of the words. `None` where there are no such words: then the
/// text is not JSON for another reason.
pub(crate) fn mask(text: &[u8]) -> Option<(Vec<u8>, Vec<usize>)> {
    let mut masked = Vec::new();
    let mut places = Vec::new();
    let mut at = 0;
    while let Some(rest) = text.get(at..).filter(|rest| !rest.is_empty()) {
        let length = match rest[0] {
            b'"' => {
                at += string_length(rest);
                continue;
            }
            b'N' if rest.starts_with(b"NaN") => 3,
            b'I' if rest.starts_with(b"Infinity") => 8,
            _ => {
                at += 1;
                continue;
            }
        };
        if masked.is_empty() {
            masked = text.to_vec();
        }
        masked[at..at + length].fill(b'1');
        places.push(at);
        at += length;
    }
    (!places.is_empty()).then_some((masked, places))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_bare_words_are_masked() {
        let (masked, places) = mask(br#"{"NaN":[NaN,-Infinity,"Infinity"]}"#).unwrap();
        assert_eq!(masked, br#"{"NaN":[111,-11111111,"Infinity"]}"#);
        assert_eq!(places, [8, 13]);
        assert_eq!(mask(br#"["NaN"]"#), None);
    }
}

//! Splits the text of a JSON array into tokens without parsing its numbers.
//!
//! The text has passed a JSON parser before (see `document`), so only the beginnings and ends of items have to be found.

use std::ops::Range;

/// Token of an array's text; commas and blanks are skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Token<'a> {
    /// `[`
    Open,
    /// `]`
    Close,
    /// A number, string (quotes included), `true`, `NaN`, ….
    Scalar(&'a [u8]),
}

/// Iterator over the tokens of a text and their ranges.
#[derive(Debug, Clone)]
pub(crate) struct Tokens<'a> {
    text: &'a [u8],
    at: usize,
}

impl<'a> Tokens<'a> {
    pub(crate) fn new(text: &'a [u8]) -> Self {
        Self { text, at: 0 }
    }

    /// Returns the next token and its range.
    fn advance(&mut self) -> Option<(Range<usize>, Token<'a>)> {
        while self.text.get(self.at).is_some_and(|byte| BETWEEN[usize::from(*byte)]) {
            self.at += 1;
        }
        let start = self.at;
        let rest = self.text.get(start..)?;
        let (length, token) = match rest.first()? {
            b'[' => (1, Token::Open),
            b']' => (1, Token::Close),
            b'"' => {
                let length = string_length(rest);
                (length, Token::Scalar(&rest[..length]))
            }
            _ => {
                let length =
                    rest.iter().position(|byte| ENDS_SCALAR[usize::from(*byte)]).unwrap_or(rest.len());
                (length, Token::Scalar(&rest[..length]))
            }
        };
        self.at += length;
        Some((start..self.at, token))
    }
}

impl<'a> Iterator for Tokens<'a> {
    type Item = (Range<usize>, Token<'a>);

    fn next(&mut self) -> Option<Self::Item> {
        self.advance()
    }
}

/// Table of the bytes that stand between items.
const BETWEEN: [bool; 256] = table(b" \n\r\t,");
/// Table of the bytes that end a number or a word.
const ENDS_SCALAR: [bool; 256] = table(b" \n\r\t,]");

/// Builds a table of `bytes`: one look-up per byte costs a third of comparing it with each of them.
const fn table(bytes: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut at = 0;
    while at < bytes.len() {
        table[bytes[at] as usize] = true;
        at += 1;
    }
    table
}

/// Returns the length of the string literal at the beginning of `text`, quotes included.
pub(crate) fn string_length(text: &[u8]) -> usize {
    let mut at = 1;
    while let Some(&byte) = text.get(at) {
        match byte {
            b'"' => return at + 1,
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    text.len()
}

/// Returns the scalars of an array's text at any depth, in row-major order.
pub(crate) fn scalars(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    Tokens::new(text).filter_map(|(_, token)| match token {
        Token::Scalar(scalar) => Some(scalar),
        Token::Open | Token::Close => None,
    })
}

/// Returns the range between the outer brackets of an array's text, without blanks at its ends.
pub(crate) fn inner_range(text: &[u8]) -> Range<usize> {
    let trimmed_start = text.len() - text.trim_ascii_start().len();
    let trimmed_end = text.trim_ascii_end().len();
    if trimmed_end < trimmed_start + 2 {
        return 0..0;
    }
    let inner = &text[trimmed_start + 1..trimmed_end - 1];
    let start = trimmed_start + 1 + (inner.len() - inner.trim_ascii_start().len());
    start..start + inner.trim_ascii().len()
}

/// Cuts the items of an array's outer level into runs of the given lengths, and returns the range of each run, from the
/// beginning of its first item to the end of its last one. `None` where the number of items is not the sum of the lengths.
pub(crate) fn runs(text: &[u8], lengths: impl Iterator<Item = usize>) -> Option<Vec<Range<usize>>> {
    let mut items = Items { tokens: Tokens::new(text) };
    let (_, Token::Open) = items.tokens.advance()? else { return None };
    let mut runs = Vec::new();
    for length in lengths {
        let mut run: Option<Range<usize>> = None;
        for _ in 0..length {
            let item = items.next()?;
            run = Some(run.map_or(item.start, |run| run.start)..item.end);
        }
        runs.push(run.unwrap_or(0..0));
    }
    items.next().is_none().then_some(runs)
}

/// Iterator over the ranges of the items of the outer level, behind the outer bracket.
struct Items<'a> {
    tokens: Tokens<'a>,
}

impl Iterator for Items<'_> {
    type Item = Range<usize>;

    fn next(&mut self) -> Option<Range<usize>> {
        let (first, token) = self.tokens.advance()?;
        match token {
            Token::Scalar(_) => Some(first),
            Token::Close => None,
            Token::Open => {
                let mut depth = 1usize;
                while depth > 0 {
                    match self.tokens.advance()?.1 {
                        Token::Open => depth += 1,
                        Token::Close => depth -= 1,
                        Token::Scalar(_) => {}
                    }
                }
                Some(first.start..self.tokens.at)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scalars_are_found_at_any_depth_and_strings_are_not_looked_into() {
        let text = br#" [[1, -2.5e3],["a,\"]", NaN] ,[]]"#;
        let found: Vec<_> = scalars(text).map(|scalar| str::from_utf8(scalar).unwrap()).collect();
        assert_eq!(found, ["1", "-2.5e3", r#""a,\"]""#, "NaN"]);
    }

    #[test]
    fn runs_follow_items_of_the_outer_level() {
        let text = b"[[1,2] , [3],[4]]";
        let cut = runs(text, [2, 0, 1].into_iter()).unwrap();
        assert_eq!(&text[cut[0].clone()], b"[1,2] , [3]");
        assert_eq!(&text[cut[1].clone()], b"");
        assert_eq!(&text[cut[2].clone()], b"[4]");
        assert_eq!(runs(text, [2].into_iter()), None);
        assert_eq!(runs(text, [4].into_iter()), None);
    }

    #[test]
    fn the_inner_text_has_no_brackets_and_no_blanks_around() {
        for (text, inner) in [("[1, 2]", "1, 2"), (" [ [1] ] ", "[1]"), ("[]", ""), ("[ ]", ""), ("x", "")] {
            assert_eq!(&text[inner_range(text.as_bytes())], inner, "{text}");
        }
    }
}

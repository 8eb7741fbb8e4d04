//! Numbers of a JSON tensor, nested or flat, each parsed from its own digits so that it is rounded once.

use std::str::FromStr;

/// Why the text is no list of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NotNumbers {
    /// It does not begin as an array does.
    NoArray,
    /// An element is something else.
    Element {
        /// Position in row-major order.
        index: usize,
        /// Its text, cut after 40 characters.
        found: String,
    },
}

/// Parses `json`, which must be valid JSON; `expected` is how many numbers are likely in it.
///
/// # Errors
/// [`NotNumbers`]: no array, or an element that is not a number of this type.
pub(crate) fn parse<T: FromStr>(json: &str, expected: usize) -> Result<Vec<T>, NotNumbers> {
    if !json.starts_with('[') {
        return Err(NotNumbers::NoArray);
    }
    // No more is reserved than the text could hold: each number has a separator.
    let mut numbers = Vec::with_capacity(expected.min(json.len() / 2));
    let tokens = json.split(|c: char| matches!(c, '[' | ']' | ',') || c.is_ascii_whitespace());
    for token in tokens.filter(|token| !token.is_empty()) {
        let number = token.parse().ok().filter(|_| !token.starts_with(|c: char| c.is_ascii_alphabetic()));
        let index = numbers.len();
        numbers.push(
            number.ok_or_else(|| NotNumbers::Element { index, found: token.chars().take(40).collect() })?,
        );
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nesting_and_whitespace_do_not_matter() {
        assert_eq!(parse("[[1, 2],\n [3,4]]", 4), Ok(vec![1_i64, 2, 3, 4]));
        assert_eq!(parse::<f32>("[]", 4), Ok(vec![]));
    }

    #[test]
    fn what_is_no_number_is_shown_with_its_place() {
        let element = |index, found: &str| NotNumbers::Element { index, found: found.into() };
        assert_eq!(parse::<f32>("[1,null]", 2), Err(element(1, "null")));
        assert_eq!(parse::<f32>("[NaN]", 2), Err(element(0, "NaN")));
        assert_eq!(parse::<i64>("[1.5]", 2), Err(element(0, "1.5")));
        assert_eq!(parse::<i64>("1", 1), Err(NotNumbers::NoArray));
    }
}

//! Checks that a tensor's JSON `data` fits its datatype and shape. Nothing is parsed: items are counted, and their first
//! bytes show their kind.

use super::lexer::{Token, Tokens};
use crate::{Datatype, JsonLayout, Limits, ParseError};

/// Checks the text of `data` and returns how it is bracketed. Only text with exactly the items of its shape passes, because
/// any other would shift the rows of all requests behind it in a batch.
pub(crate) fn check(
    text: &[u8],
    datatype: Datatype,
    shape: &[u64],
    elements: usize,
    limits: &Limits,
) -> Result<JsonLayout, ParseError> {
    let mut tokens = Tokens::new(text).map(|(_, token)| token).peekable();
    if tokens.next() != Some(Token::Open) {
        return Err(ParseError::malformed("data is not an array"));
    }
    let nested = shape.len() > 1 && tokens.peek() == Some(&Token::Open);
    if nested && shape.len() > limits.json_depth {
        let limit = limits.json_depth;
        return Err(ParseError::limit(format!("data is nested deeper than the limit of {limit}")));
    }
    let flat_shape = [elements as u64];
    let shape = if nested { shape } else { &flat_shape };

    // counts[d] is the number of items so far in the open array of depth d.
    let mut counts: Vec<u64> = Vec::with_capacity(shape.len());
    counts.push(0);
    for token in tokens {
        let depth = counts.len();
        let Some(count) = counts.last_mut() else {
            return Err(ParseError::malformed("data goes on after its array"));
        };
        match token {
            Token::Open if depth == shape.len() => {
                return Err(ParseError::malformed(mismatch(shape, nested, "is nested deeper")));
            }
            Token::Open => {
                *count += 1;
                counts.push(0);
            }
            Token::Scalar(_) if depth < shape.len() => {
                return Err(ParseError::malformed(mismatch(shape, nested, "is nested less deep")));
            }
            Token::Scalar(scalar) => {
                if !is_kind(scalar, datatype) {
                    let shown = String::from_utf8_lossy(&scalar[..scalar.len().min(32)]);
                    return Err(ParseError::malformed(format!(
                        "data contains {shown}, which is no {}",
                        datatype.name()
                    )));
                }
                *count += 1;
            }
            Token::Close => {
                if *count != shape[depth - 1] {
                    let has = format!("has {count} items where {} are expected", shape[depth - 1]);
                    return Err(ParseError::malformed(mismatch(shape, nested, &has)));
                }
                counts.pop();
            }
        }
    }
    if !counts.is_empty() {
        return Err(ParseError::malformed("data ends within its array"));
    }
    Ok(if nested { JsonLayout::Nested } else { JsonLayout::Flat })
}

fn mismatch(shape: &[u64], nested: bool, what: &str) -> String {
    if nested {
        format!("data {what} (shape {shape:?})")
    } else {
        format!("data {what} (flat, {} elements by its shape)", shape[0])
    }
}

/// Returns whether a scalar looks like an element of this datatype. Ranges are checked where numbers are parsed
/// (`transcode`), or by the model server.
fn is_kind(scalar: &[u8], datatype: Datatype) -> bool {
    match datatype {
        Datatype::Bool => scalar == b"true" || scalar == b"false",
        Datatype::Bytes => scalar.first() == Some(&b'"'),
        Datatype::Fp16 | Datatype::Bf16 => false,
        Datatype::Fp32 | Datatype::Fp64 => {
            matches!(scalar.first(), Some(b'-' | b'0'..=b'9' | b'N' | b'I'))
        }
        _ => matches!(scalar, [b'0'..=b'9', ..] | [b'-', b'0'..=b'9', ..]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(text: &str, datatype: Datatype, shape: &[u64]) -> Result<JsonLayout, String> {
        let elements = shape.iter().product::<u64>() as usize;
        check(text.as_bytes(), datatype, shape, elements, &Limits::default()).map_err(|error| error.message)
    }

    #[test]
    fn flat_and_nested_data_are_told_apart() {
        assert_eq!(layout("[1,2,3,4]", Datatype::Int64, &[2, 2]), Ok(JsonLayout::Flat));
        assert_eq!(layout("[[1,2],[3,4]]", Datatype::Int64, &[2, 2]), Ok(JsonLayout::Nested));
        assert_eq!(layout("[1,2]", Datatype::Int64, &[2]), Ok(JsonLayout::Flat));
        assert_eq!(layout("[[],[]]", Datatype::Int64, &[2, 0]), Ok(JsonLayout::Nested));
        assert_eq!(layout("[]", Datatype::Int64, &[2, 0]), Ok(JsonLayout::Flat));
        assert_eq!(layout(r#"["a]","b"]"#, Datatype::Bytes, &[2, 1]), Ok(JsonLayout::Flat));
        assert_eq!(layout("[NaN,-Infinity]", Datatype::Fp32, &[1, 2]), Ok(JsonLayout::Flat));
    }

    #[test]
    fn data_that_would_shift_other_rows_is_refused() {
        for (text, datatype, shape) in [
            ("[1,2,3]", Datatype::Int64, &[2, 2][..]),
            ("[1,2,3,4,5]", Datatype::Int64, &[2, 2]),
            ("[[1,2],[3]]", Datatype::Int64, &[2, 2]),
            ("[[1,2],[3,4],[5,6]]", Datatype::Int64, &[2, 2]),
            ("[[1,2],3,4]", Datatype::Int64, &[2, 2]),
            ("[[1,[2]],[3,4]]", Datatype::Int64, &[2, 2]),
            ("[1,[2],3,4]", Datatype::Int64, &[2, 2]),
            ("[1,NaN]", Datatype::Int64, &[2]),
            ("[1,null]", Datatype::Fp32, &[2]),
            ("[{\"a\":1}]", Datatype::Fp32, &[1]),
            ("[1.0]", Datatype::Fp16, &[1]),
            ("7", Datatype::Int64, &[1]),
        ] {
            assert!(layout(text, datatype, shape).is_err(), "{text} passed as {datatype:?} {shape:?}");
        }
    }
}

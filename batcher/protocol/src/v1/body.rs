//! Reads the JSON of a V1 request's or response's body: its value and its members, as slices of the body.

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::ParseError;
use crate::json::{items, nonfinite};

/// Returns the only JSON value of a body, without the blanks around it. `NaN` and `Infinity` are accepted, as in TensorFlow
/// Serving.
pub(super) fn value(body: &Bytes) -> Result<Bytes, ParseError> {
    let check = |text: &[u8]| serde_json::from_slice::<&RawValue>(text).map(|_| ());
    if let Err(error) = check(body)
        && nonfinite::mask(body).is_none_or(|(masked, _)| check(&masked).is_err())
    {
        return Err(ParseError::malformed(format!("not valid JSON: {error}")));
    }
    let start = body.len() - body.trim_ascii_start().len();
    Ok(body.slice(start..start + body.trim_ascii().len()))
}

/// Returns the members of an object: decoded names, and values as slices of the text.
pub(super) fn members(text: &Bytes) -> impl Iterator<Item = (Result<String, ParseError>, Bytes)> {
    items::members(text).map(|(name, value)| {
        let name = items::name(&text[name]).ok_or_else(|| ParseError::malformed("a name is no string"));
        (name, text.slice(value))
    })
}

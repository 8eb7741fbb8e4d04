//! The JSON of a V1 body, request or response: its value and its members, as slices of the body.

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::ParseError;
use crate::json::{items, nonfinite};

/// The one JSON value of a body, blanks around it left out. `NaN` and `Infinity` are taken, as TensorFlow Serving does.
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

/// The members of an object, names read, values as slices of the text.
pub(super) fn members(text: &Bytes) -> impl Iterator<Item = (Result<String, ParseError>, Bytes)> {
    items::members(text).map(|(name, value)| {
        let name = items::name(&text[name]).ok_or_else(|| ParseError::malformed("a name is no string"));
        (name, text.slice(value))
    })
}

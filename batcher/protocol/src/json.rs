//! V2 JSON: a request's object read once, its tensors' data left as text.

mod document;
pub(crate) mod items;
pub(crate) mod layout;
pub(crate) mod lexer;
pub(crate) mod nonfinite;
pub(crate) mod tensors;
pub(crate) mod write;

use bytes::Bytes;

use crate::request::Parts;
use crate::{InferRequest, Limits, ParseError, Target, WireFormat};

/// Reads a V2 JSON inference request. `target` comes from the URL path.
///
/// # Errors
/// [`ParseError`]: malformed (forward it alone) or beyond `limits` (answer it).
pub fn parse_json(target: &Target, body: Bytes, limits: &Limits) -> Result<InferRequest, ParseError> {
    if body.len() > limits.body_bytes {
        return Err(ParseError::too_large(body.len(), limits.body_bytes));
    }
    let read = tensors::read_request(&body, None, limits)?;
    Ok(Parts {
        format: WireFormat::Json,
        target: target.clone(),
        read: Some(read),
        body,
        header_length: None,
    }
    .assemble())
}

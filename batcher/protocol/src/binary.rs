//! V2 binary: a JSON header, then raw tensors.

use bytes::Bytes;

use crate::json::tensors;
use crate::request::Parts;
use crate::{Form, InferRequest, Limits, ParseError, Target};

/// Reads a V2 binary inference request: `header_length` bytes of JSON (the header
/// `Inference-Header-Content-Length`), then the raw tensors in the order in which the JSON names them. Inputs with
/// JSON `data` may stand between.
///
/// # Errors
/// [`ParseError`]: malformed (forward it alone) or beyond `limits` (answer it).
pub fn parse_binary(
    target: &Target,
    header_length: usize,
    body: Bytes,
    limits: &Limits,
) -> Result<InferRequest, ParseError> {
    if body.len() > limits.body_bytes {
        return Err(ParseError::too_large(body.len(), limits.body_bytes));
    }
    if header_length > limits.header_bytes {
        let limit = limits.header_bytes;
        return Err(ParseError::limit(format!(
            "the JSON part has {header_length} bytes, the limit is {limit}"
        )));
    }
    if header_length > body.len() {
        return Err(ParseError::malformed(format!(
            "Inference-Header-Content-Length is {header_length}, but the body has {} bytes",
            body.len()
        )));
    }
    let parts = |read, body| Parts {
        form: Form::Binary,
        target: target.clone(),
        read,
        body,
        header_length: Some(header_length),
    };
    if header_length == 0 {
        return Ok(parts(None, body).assemble());
    }
    let text = body.slice(..header_length);
    let raw = body.slice(header_length..);
    let read = tensors::read_request(&text, Some(raw), limits)?;
    Ok(parts(Some(read), body).assemble())
}

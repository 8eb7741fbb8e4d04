//! V2 binary.
use bytes::Bytes;

use crate::{InferRequest, Limits, ParseError, Target};

/// Reads a V2 binary inference request: `header_length` bytes of JSON (the header `Inference-Header-Content-Length`), then the raw
/// tensors in the order in which the JSON names them. Inputs with JSON `data` may stand between.
///
/// # Errors
/// [`ParseError`]: malformed (forward it alone) or beyond `limits` (answer it).
pub fn parse_binary(
    target: &Target,
    header_length: usize,
    body: Bytes,
    limits: &Limits,
) -> Result<InferRequest, ParseError> {
    todo!()
}

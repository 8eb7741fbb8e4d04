//! V2 JSON.
use bytes::Bytes;

use crate::{InferRequest, Limits, ParseError, Target};

/// Reads a V2 JSON inference request. `target` comes from the URL path.
///
/// # Errors
/// [`ParseError`]: malformed (forward it alone) or beyond `limits` (answer it).
pub fn parse_json(target: &Target, body: Bytes, limits: &Limits) -> Result<InferRequest, ParseError> {
    todo!()
}

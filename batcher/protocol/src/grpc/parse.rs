//! A gRPC inference request.
use bytes::Bytes;

use crate::{InferRequest, Limits, ParseError};

/// Reads a `ModelInferRequest` (without the 5-byte prefix: see [`crate::grpc::decode_unary`]).
///
/// # Errors
/// [`ParseError`]: malformed (forward it alone) or beyond `limits` (answer it).
pub fn parse_grpc(message: Bytes, limits: &Limits) -> Result<InferRequest, ParseError> {
    todo!()
}

//! One call to the model and its response, in any of the three wire formats.

use bytes::Bytes;
use sluice_protocol::WireFormat;

use super::batch::{Batch, Wanted};
use super::{grpc_format, rest_format};

/// A validated inference request.
#[derive(Debug)]
pub struct Call {
    /// Wire format of the request.
    pub form: WireFormat,
    /// Id chosen by the client; the response repeats it.
    pub request_id: Option<String>,
    /// Rows of the request.
    pub batch: Batch,
    /// Outputs to return.
    pub wanted: Wanted,
    /// Outputs to return as raw bytes. Ignored for gRPC, which always returns raw bytes.
    pub binary: Wanted,
}

/// Encoded response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedResponse {
    /// Body; for gRPC the message with its 5-byte prefix.
    pub body: Bytes,
    /// Length of the JSON part where binary tensors follow it (`Inference-Header-Content-Length`).
    pub json_bytes: Option<usize>,
}

impl Call {
    /// Computes and encodes the response of the model `name`.
    pub fn answer(&self, name: &str) -> EncodedResponse {
        match self.form {
            // No call arrives as V1: this server does not read it.
            WireFormat::Json | WireFormat::Binary | WireFormat::V1 => rest_format::encode(self, name),
            WireFormat::Grpc => grpc_format::encode(self, name),
        }
    }
}

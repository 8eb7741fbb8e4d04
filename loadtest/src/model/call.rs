//! One call to the model and its answer, in any of the three forms that share its slot.

use bytes::Bytes;
use sluice_protocol::WireFormat;

use super::batch::{Batch, Wanted};
use super::{grpc_format, rest_format};

/// A checked request.
#[derive(Debug)]
pub struct Call {
    /// How it came.
    pub form: WireFormat,
    /// The client's own name for it; echoed.
    pub request_id: Option<String>,
    /// Its rows.
    pub batch: Batch,
    /// The outputs to answer with.
    pub wanted: Wanted,
    /// Of those, the ones to answer as raw bytes; of no meaning to gRPC, whose answers are always raw.
    pub binary: Wanted,
}

/// The bytes of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodedResponse {
    /// The body; for gRPC the message with its 5-byte prefix.
    pub body: Bytes,
    /// Length of the JSON part where binary tensors follow it (`Inference-Header-Content-Length`).
    pub json_bytes: Option<usize>,
}

impl Call {
    /// Computes and encodes the answer of the model `name`.
    pub fn answer(&self, name: &str) -> EncodedResponse {
        match self.form {
            // V1 has no reader here, so that no call has its form.
            WireFormat::Json | WireFormat::Binary | WireFormat::V1 => rest_format::encode(self, name),
            WireFormat::Grpc => grpc_format::encode(self, name),
        }
    }
}

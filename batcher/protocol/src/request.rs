//! An inference request, whatever its form was.

use bytes::Bytes;

use crate::{Alone, Form, MergeKey, Parameters, Target, Tensor};

/// A parsed inference request.
#[derive(Debug, Clone)]
pub struct InferRequest {
    /// How the client asked.
    pub form: Form,
    /// Model and version.
    pub target: Target,
    /// The client's id, echoed in its answer and never forwarded in a batch. Absent and empty are the same in gRPC.
    pub id: Option<String>,
    /// Dimension 0 of its inputs. 1 where [`InferRequest::alone`] says that it has no common dimension 0.
    pub rows: usize,
    /// Its inputs, in the client's order.
    pub inputs: Vec<Tensor>,
    /// Outputs that the client selected; empty: all.
    pub outputs: Vec<RequestedOutput>,
    /// Request parameters that are forwarded: without `priority`, `timeout` and `binary_data_output`.
    pub parameters: Parameters,
    /// The `priority` parameter: 1 is the highest, 0 and absent are the default.
    pub priority: Option<u64>,
    /// The `timeout` parameter, in microseconds: how long it may wait.
    pub timeout_us: Option<u64>,
    /// The `binary_data_output` parameter: outputs without their own `binary_data` are answered raw.
    pub binary_data_output: bool,
    /// Set: this request must not be merged; forward [`InferRequest::body`] as it is.
    pub alone: Option<Alone>,
    /// Requests with equal keys may share a batch.
    pub key: MergeKey,
    /// The body as it was received (gRPC: the message without its 5-byte prefix).
    pub body: Bytes,
    /// Bytes of the JSON part of `body`; `None` where the header was not sent.
    pub header_length: Option<usize>,
}

/// One output that a client selected.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestedOutput {
    /// Its name.
    pub name: String,
    /// Parameters that are forwarded (`classification`, …): without `binary_data`.
    pub parameters: Parameters,
    /// The `binary_data` parameter: this client wants the output raw, or as JSON.
    pub binary_data: Option<bool>,
}

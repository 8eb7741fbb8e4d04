//! An inference request, independent of its wire format.

use bytes::Bytes;

use crate::v1::V1Request;
use crate::wire_protocol::Unread;
use crate::{
    Address, Alone, Limits, MergeKey, ModelSignature, Parameter, Parameters, Target, Tensor, WireFormat,
};

/// A parsed inference request.
#[derive(Debug, Clone)]
pub struct InferRequest {
    /// Wire format in which the client sent it and gets its response.
    pub format: WireFormat,
    /// Model and version.
    pub target: Target,
    /// The client's id, repeated in its response and never forwarded with other requests in a batch. In gRPC an empty id counts
    /// as missing.
    pub id: Option<String>,
    /// Number of its rows: dimension 0 of its inputs, or 1 where [`InferRequest::alone`] is set.
    pub rows: usize,
    /// Its inputs, in the client's order.
    pub inputs: Vec<Tensor>,
    /// Outputs that the client selected; empty where it wants all.
    pub outputs: Vec<RequestedOutput>,
    /// Request parameters that are forwarded: without `priority`, `timeout` and `binary_data_output`.
    pub parameters: Parameters,
    /// The `priority` parameter: 1 is the highest, 0 and `None` are the default.
    pub priority: Option<u64>,
    /// The `timeout` parameter: how long the request may wait, in microseconds.
    pub timeout_us: Option<u64>,
    /// The `binary_data_output` parameter: whether outputs without their own `binary_data` are returned raw.
    pub binary_data_output: bool,
    /// Reason for which this request must not be merged: forward [`InferRequest::body`] as it is. `None`: it may be merged.
    pub alone: Option<Alone>,
    /// Key of the request: requests with equal keys may share a batch.
    pub key: MergeKey,
    /// Content of a V1 request that is not read as V2 tensors: it has no `inputs` and shares batches only with V1 requests.
    pub v1: Option<V1Request>,
    /// The body as it was received (gRPC: the message without its 5-byte prefix).
    pub body: Bytes,
    /// Whether the body means the same as the fields and can be read by any server. Set it to false where a field is changed.
    pub is_verbatim: bool,
    /// Bytes of the JSON part of `body`, by the header [`HEADER_LENGTH`](crate::HEADER_LENGTH); `None` where it was not sent.
    pub header_length: Option<usize>,
}

/// One output that a client selected.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestedOutput {
    /// Its name.
    pub name: String,
    /// Parameters that are forwarded (`classification`, …): without `binary_data`.
    pub parameters: Parameters,
    /// The `binary_data` parameter: whether this client wants the output raw (`true`) or as JSON; `None` where it is missing.
    pub binary_data: Option<bool>,
}

impl InferRequest {
    /// Returns the number of elements of one row, over all inputs. Requests with equal keys have the same number.
    pub fn elements_per_row(&self) -> u64 {
        let v1 = self.v1.as_ref().map_or(0, V1Request::elements_per_row);
        self.inputs.iter().fold(v1, |sum: u64, input| sum.saturating_add(input.elements_per_row() as u64))
    }

    /// Returns what the path of its batch must address.
    pub fn address(&self) -> Address {
        let label = self.v1.as_ref().and_then(|v1| v1.label.clone());
        Address { target: self.target.clone(), label }
    }

    /// Returns the path of a model server for a batch of this request's key, in the wire format that
    /// [`crate::Merged::format`] names.
    pub fn path(&self, format: WireFormat) -> String {
        format.protocol().path(&self.address())
    }

    /// Returns whether its content depends on the model's metadata, as in a V1 and a raw binary request.
    pub fn rests_on_metadata(&self) -> bool {
        self.format.protocol().rests_on_metadata(self.header_length)
    }

    /// Reads the request again with other metadata (`None`: the model's metadata is unknown). A request that does not depend on
    /// metadata stays as it is.
    pub fn read_again(self, signature: Option<&ModelSignature>) -> Self {
        if !self.rests_on_metadata() {
            return self;
        }
        let again = self.format.protocol().read_request(Unread {
            address: &self.address(),
            header_length: self.header_length,
            body: self.body.clone(),
            // The body was within the limits when it was received, and it has not changed.
            limits: &Limits::UNBOUNDED,
            signature,
        });
        again.unwrap_or(self)
    }

    /// Returns whether it is a step of a sequence: it changes a state that the server keeps, so it must not be executed twice.
    pub fn is_stateful(&self) -> bool {
        // `alone` holds only the first reason, so the parameters are searched.
        let says_so =
            |name: &str, value: &Parameter| Alone::of_parameter(name, value) == Some(Alone::Sequence);
        self.parameters.iter().any(|(name, value)| says_so(name, value))
            || self.v1.as_ref().is_some_and(|v1| v1.says_of_parameters(says_so))
    }

    /// Returns whether this client wants the output raw (only for REST; responses to gRPC clients are always raw).
    pub(crate) fn wants_raw(&self, output: &str) -> bool {
        let selected = self.outputs.iter().find(|selected| selected.name == output);
        selected.and_then(|selected| selected.binary_data).unwrap_or(self.binary_data_output)
    }

    /// Returns whether this client wants any output raw.
    pub(crate) fn wants_any_raw(&self) -> bool {
        self.binary_data_output || self.outputs.iter().any(|output| output.binary_data == Some(true))
    }
}

/// Content of a request, independent of its wire format.
#[derive(Debug, Default)]
pub(crate) struct ReadRequest {
    pub(crate) id: Option<String>,
    pub(crate) parameters: Parameters,
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) outputs: Vec<RequestedOutput>,
    pub(crate) unknown_field: bool,
    /// Whether a field was `null`, which some servers refuse.
    pub(crate) has_nulls: bool,
}

/// Removes a parameter that is a bool, and returns it.
pub(crate) fn take_bool(parameters: &mut Parameters, name: &str) -> Option<bool> {
    let value = parameters.get(name)?.as_bool()?;
    parameters.remove(name);
    Some(value)
}

/// Result of the parser of one wire format, from which an [`InferRequest`] is made.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) format: WireFormat,
    pub(crate) target: Target,
    /// Content of the request; `None` for a raw binary request.
    pub(crate) read: Option<ReadRequest>,
    pub(crate) body: Bytes,
    pub(crate) header_length: Option<usize>,
}

impl Parts {
    /// Takes out the parameters that the batcher consumes, counts rows, and finds out whether and with which requests this one
    /// may be merged.
    pub(crate) fn assemble(self) -> InferRequest {
        let raw_binary = self.read.is_none();
        let ReadRequest { id, mut parameters, inputs, outputs, unknown_field, has_nulls } =
            self.read.unwrap_or_default();
        let alone = if raw_binary {
            Some(Alone::RawBinary)
        } else if has_nulls {
            Some(Alone::Null)
        } else {
            Alone::of(&parameters, &inputs, &outputs, unknown_field)
        };
        let mut consume = |name: &str| {
            let value = parameters.get(name)?.as_u64()?;
            parameters.remove(name);
            Some(value)
        };
        let (priority, timeout_us) = (consume("priority"), consume("timeout"));
        let binary_data_output = take_bool(&mut parameters, "binary_data_output").unwrap_or(false);
        let rows = match alone {
            None => {
                inputs.first().and_then(Tensor::rows).and_then(|rows| usize::try_from(rows).ok()).unwrap_or(1)
            }
            Some(_) => 1,
        };
        InferRequest {
            format: self.format,
            key: MergeKey::of(&self.target, &parameters, &inputs, &outputs),
            target: self.target,
            id,
            rows,
            inputs,
            outputs,
            parameters,
            priority,
            timeout_us,
            binary_data_output,
            alone,
            v1: None,
            body: self.body,
            // Fewer servers can read a body of raw bytes alone than one that describes them.
            is_verbatim: !has_nulls && self.header_length != Some(0),
            header_length: self.header_length,
        }
    }
}

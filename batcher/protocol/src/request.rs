//! An inference request, whatever its wire format was.

use bytes::Bytes;

use crate::v1::V1Request;
use crate::wire_protocol::Unread;
use crate::{
    Address, Alone, Limits, MergeKey, ModelSignature, Parameter, Parameters, Target, Tensor, WireFormat,
};

/// A parsed inference request.
#[derive(Debug, Clone)]
pub struct InferRequest {
    /// How the client asked.
    pub format: WireFormat,
    /// Model and version.
    pub target: Target,
    /// The client's id, echoed in its answer and never forwarded with other requests in a batch. Absent and empty are the same in gRPC.
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
    /// Set: a V1 request that is no V2 tensors; it has no `inputs`, and shares batches with V1 requests alone.
    pub v1: Option<V1Request>,
    /// The body as it was received (gRPC: the message without its 5-byte prefix).
    pub body: Bytes,
    /// The body says what the fields do, in words that any server reads. Unset it where a field is changed.
    pub is_verbatim: bool,
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

impl InferRequest {
    /// Elements of one row, over all inputs. Equal for requests of one key.
    pub fn elements_per_row(&self) -> u64 {
        let v1 = self.v1.as_ref().map_or(0, V1Request::elements_per_row);
        self.inputs.iter().fold(v1, |sum: u64, input| sum.saturating_add(input.elements_per_row() as u64))
    }

    /// What the path of its batch must address.
    pub fn address(&self) -> Address {
        let label = self.v1.as_ref().and_then(|v1| v1.label.clone());
        Address { target: self.target.clone(), label }
    }

    /// Returns the path of a model server for a batch of this request's key, in the wire format that
    /// [`crate::Merged::format`] names.
    pub fn path(&self, format: WireFormat) -> String {
        format.protocol().path(&self.address())
    }

    /// Returns whether what it says depends on the model's metadata: a V1 request, or a raw binary one.
    pub fn rests_on_metadata(&self) -> bool {
        self.format.protocol().rests_on_metadata(self.header_length)
    }

    /// Reads the request again with other metadata (`None`: nothing is known of the model). A request that does not
    /// depend on them stays as it is.
    pub fn read_again(self, signature: Option<&ModelSignature>) -> Self {
        if !self.rests_on_metadata() {
            return self;
        }
        let again = self.format.protocol().read_request(Unread {
            address: &self.address(),
            header_length: self.header_length,
            body: self.body.clone(),
            // It was within the limits when it came, and is as long as it was.
            limits: &Limits::UNBOUNDED,
            signature,
        });
        again.unwrap_or(self)
    }

    /// Whether it is a step of a sequence: the server keeps a state that it changes, so it must not run twice.
    pub fn is_stateful(&self) -> bool {
        // `alone` names the first reason only.
        let says_so =
            |name: &str, value: &Parameter| Alone::of_parameter(name, value) == Some(Alone::Sequence);
        self.parameters.iter().any(|(name, value)| says_so(name, value))
            || self.v1.as_ref().is_some_and(|v1| v1.says_of_parameters(says_so))
    }

    /// Whether this client wants the output raw (REST; a gRPC client's answers are always raw).
    pub(crate) fn wants_raw(&self, output: &str) -> bool {
        let selected = self.outputs.iter().find(|selected| selected.name == output);
        selected.and_then(|selected| selected.binary_data).unwrap_or(self.binary_data_output)
    }

    /// Whether this client wants any output raw.
    pub(crate) fn wants_any_raw(&self) -> bool {
        self.binary_data_output || self.outputs.iter().any(|output| output.binary_data == Some(true))
    }
}

/// What a request says, whatever its wire format.
#[derive(Debug, Default)]
pub(crate) struct ReadRequest {
    pub(crate) id: Option<String>,
    pub(crate) parameters: Parameters,
    pub(crate) inputs: Vec<Tensor>,
    pub(crate) outputs: Vec<RequestedOutput>,
    pub(crate) unknown_field: bool,
    /// Some field was `null`, which some servers refuse.
    pub(crate) has_nulls: bool,
}

/// Removes a parameter that is a bool, and returns it.
pub(crate) fn take_bool(parameters: &mut Parameters, name: &str) -> Option<bool> {
    let value = parameters.get(name)?.as_bool()?;
    parameters.remove(name);
    Some(value)
}

/// What a parser of one wire format has found, before it is judged.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) format: WireFormat,
    pub(crate) target: Target,
    /// `None`: a raw binary request.
    pub(crate) read: Option<ReadRequest>,
    pub(crate) body: Bytes,
    pub(crate) header_length: Option<usize>,
}

impl Parts {
    /// Takes out the parameters that we consume, counts rows, and says whether and with what the request may be merged.
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
            // A body of raw bytes alone is read by fewer servers than one that says what they are.
            is_verbatim: !has_nulls && self.header_length != Some(0),
            header_length: self.header_length,
        }
    }
}

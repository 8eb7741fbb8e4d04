//! V1 `:predict`: `instances` → `predictions` by rows, or `inputs` → `outputs` by columns.
//!
//! V1 names no datatypes, so V1 requests are joined as text, and their batch is sent to the model server's V1 path. Where
//! the model's metadata is known ([`crate::ModelSignature`]) and the instances fit it, the request is read as V2 tensors
//! instead and shares batches with V2 requests of all wire formats; its response is written as `predictions` again.

mod batch;
mod body;
mod join;
mod parse;
mod path;
mod predictions;
mod read_response;
mod text_response;

use bytes::Bytes;

pub use parse::parse_v1;
pub(crate) use read_response::TextResponse;

use crate::json::items;
use crate::split::OutputPart;
use crate::wire_protocol::{Api, Batch, BatchBody, Transport, Unread};
use crate::{
    Address, BatchRows, InferRequest, InferResponse, MergeError, Parameter, Parameters, ParseError,
    PartError, ResponseError, ResponsePart, WireFormat, WireProtocol,
};

/// V1 REST.
#[derive(Debug)]
pub(crate) struct V1;

impl WireProtocol for V1 {
    fn name(&self) -> &'static str {
        "v1"
    }

    fn transport(&self) -> Transport {
        Transport::Rest
    }

    fn api(&self) -> Api {
        Api::V1
    }

    fn carries_raw_tensors(&self) -> bool {
        false
    }

    fn text_format(&self) -> Option<WireFormat> {
        Some(WireFormat::V1)
    }

    fn read_path(&self, path: &str) -> Option<Address> {
        path::read(path)
    }

    /// V1 names no datatypes.
    fn rests_on_metadata(&self, _header_length: Option<usize>) -> bool {
        true
    }

    fn read_request(&self, unread: Unread<'_>) -> Result<InferRequest, ParseError> {
        parse_v1(unread.address, unread.body, unread.limits, unread.signature)
    }

    fn path(&self, address: &Address) -> String {
        path::write(address)
    }

    fn write_batch(&self, _batch: &Batch<'_>) -> Result<BatchBody, MergeError> {
        Err(MergeError { index: 0, reason: "the model server speaks V1 alone".into() })
    }

    fn write_text_batch(
        &self,
        requests: &[&InferRequest],
        rows: &BatchRows,
    ) -> Result<BatchBody, MergeError> {
        batch::write(requests, rows)
    }

    fn read_response(
        &self,
        _header_length: Option<usize>,
        body: Bytes,
    ) -> Result<InferResponse, ResponseError> {
        let v1 = Some(read_response::read_response(body)?);
        let (model_name, model_version) = (None, None);
        let (parameters, outputs) = (Parameters::new(), Vec::new());
        Ok(InferResponse { model_name, model_version, parameters, outputs, v1 })
    }

    fn write_response(
        &self,
        _response: &InferResponse,
        request: &InferRequest,
        outputs: &[OutputPart<'_>],
    ) -> Result<ResponsePart, PartError> {
        predictions::write(request, outputs)
    }
}

/// Content of a V1 request that is not read as V2 tensors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct V1Request {
    /// Label of the version, where the path has one.
    pub(crate) label: Option<String>,
    pub(crate) data: Data,
    /// All other fields (`signature_name`, …) as they were written, by name.
    pub(crate) fields: Vec<(String, Bytes)>,
}

/// Values of a V1 request; each text is a JSON value as it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Data {
    /// `instances`: an array of rows.
    Rows(Bytes),
    /// `inputs` of a model with one input: an array whose items are rows.
    Column(Bytes),
    /// `inputs` by name: each an array whose items are rows.
    Columns(Vec<(String, Bytes)>),
}

impl V1Request {
    /// Returns whether a condition holds for any of its fields other than the values, or for any of its `parameters`.
    pub(crate) fn says_of_parameters(&self, condition: impl Fn(&str, &Parameter) -> bool) -> bool {
        self.fields.iter().any(|(name, text)| {
            if name == "parameters"
                && let Ok(parameters) = serde_json::from_slice::<Parameters>(text)
            {
                return parameters.iter().any(|(name, value)| condition(name, value));
            }
            let value = serde_json::from_slice(text);
            condition(name, &value.unwrap_or(Parameter::Bool(true)))
        })
    }

    /// Returns the number of scalars of the first row, over all columns.
    pub(crate) fn elements_per_row(&self) -> u64 {
        let first = |rows: &Bytes| {
            let first = items::items(rows).next();
            first.map_or(0, |first| items::scalars(&rows[first]))
        };
        match &self.data {
            Data::Rows(rows) | Data::Column(rows) => first(rows),
            Data::Columns(columns) => columns.iter().map(|(_, rows)| first(rows)).sum(),
        }
    }
}

impl Data {
    /// Returns the name of the request's field with the values.
    fn field(&self) -> &'static str {
        match self {
            Self::Rows(_) => "instances",
            Self::Column(_) | Self::Columns(_) => "inputs",
        }
    }
}

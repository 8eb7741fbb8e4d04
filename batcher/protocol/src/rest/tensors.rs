//! Turns a JSON document (and the raw section behind it) into tensors.

use bytes::Bytes;

use super::document::{Document, TensorText, read};
use crate::json::{layout, nonfinite};
use crate::request::{ReadRequest, take_bool};
use crate::tensor::checked_elements;
use crate::{
    Datatype, InferResponse, Limits, Parameter, ParseError, RequestedOutput, Tensor, TensorData, transcode,
};

/// Reads a request. `text`: the JSON part. `raw`: the raw tensors behind it; `None` for a JSON request.
pub(super) fn read_request(
    text: &Bytes,
    raw: Option<Bytes>,
    limits: &Limits,
) -> Result<ReadRequest, ParseError> {
    with_document(text, limits, |document, source| {
        let mut raw = raw;
        let inputs = document
            .inputs
            .into_iter()
            .map(|tensor| source.tensor(tensor, &mut raw, limits))
            .collect::<Result<Vec<_>, _>>()?;
        if raw.is_some_and(|rest| !rest.is_empty()) {
            return Err(ParseError::malformed("bytes follow the last input's binary data"));
        }
        let unknown_field = document.unknown_field
            || document.model_name.is_some()
            || document.model_version.is_some()
            || document.outputs.iter().any(|output| output.data.is_some() || output.shape.is_some());
        let outputs = document
            .outputs
            .into_iter()
            .map(|output| {
                let name = output.name.ok_or_else(|| ParseError::malformed("an output has no name"))?;
                let mut parameters = output.parameters;
                let binary_data = take_bool(&mut parameters, "binary_data");
                Ok(RequestedOutput { name, parameters, binary_data })
            })
            .collect::<Result<Vec<_>, ParseError>>()?;
        let (id, parameters, has_nulls) = (document.id, document.parameters, document.has_nulls);
        Ok(ReadRequest { id, parameters, inputs, outputs, unknown_field, has_nulls })
    })
}

/// Reads a response. `text` and `raw` as in [`read_request`].
pub(super) fn read_response(text: &Bytes, raw: Option<Bytes>) -> Result<InferResponse, ParseError> {
    let limits = Limits::UNBOUNDED;
    with_document(text, &limits, |document, source| {
        let mut raw = raw;
        let outputs = document
            .outputs
            .into_iter()
            .map(|tensor| source.tensor(tensor, &mut raw, &limits))
            .collect::<Result<Vec<_>, _>>()?;
        if raw.is_some_and(|rest| !rest.is_empty()) {
            return Err(ParseError::malformed("bytes follow the last output's binary data"));
        }
        Ok(InferResponse {
            model_name: document.model_name,
            model_version: document.model_version,
            parameters: document.parameters,
            outputs,
            v1: None,
        })
    })
}

/// Parses `text` and calls `take` with the document. `NaN` and `Infinity` are allowed in tensors' data, but nowhere else.
fn with_document<T>(
    text: &Bytes,
    limits: &Limits,
    take: impl FnOnce(Document<'_>, Source<'_>) -> Result<T, ParseError>,
) -> Result<T, ParseError> {
    let error = match read(text, limits) {
        Ok(document) => return take(document, Source { parsed: text, original: text }),
        Err(error) if !error.is_forwardable() => return Err(error),
        Err(error) => error,
    };
    let Some((masked, places)) = nonfinite::mask(text) else { return Err(error) };
    let document = read(&masked, limits)?;
    let source = Source { parsed: &masked, original: text };
    let within_data: usize = document
        .inputs
        .iter()
        .chain(&document.outputs)
        .filter_map(|tensor| tensor.data)
        .map(|data| {
            let range = source.range(data.get());
            places.partition_point(|&at| at < range.end) - places.partition_point(|&at| at < range.start)
        })
        .sum();
    if within_data == places.len() { take(document, source) } else { Err(error) }
}

/// The text that was parsed, and the original bytes (of equal length) from which slices are taken.
#[derive(Clone, Copy)]
struct Source<'a> {
    parsed: &'a [u8],
    original: &'a Bytes,
}

impl Source<'_> {
    /// Returns the range of a piece of the parsed text.
    fn range(&self, piece: &str) -> std::ops::Range<usize> {
        let start = piece.as_ptr().addr() - self.parsed.as_ptr().addr();
        start..start + piece.len()
    }

    /// Reads a tensor; raw data, if it has any, is taken off the front of `raw`.
    fn tensor(
        &self,
        text: TensorText<'_>,
        raw: &mut Option<Bytes>,
        limits: &Limits,
    ) -> Result<Tensor, ParseError> {
        let name = text.name.ok_or_else(|| ParseError::malformed("a tensor has no name"))?;
        let at = |error: ParseError| error.at(&name);
        let datatype = text.datatype.ok_or_else(|| at(ParseError::malformed("has no datatype")))?;
        let datatype = Datatype::from_name(&datatype)
            .ok_or_else(|| at(ParseError::malformed(format!("datatype '{datatype}' is not known"))))?;
        let shape = text.shape.ok_or_else(|| at(ParseError::malformed("has no shape")))?;
        let elements = checked_elements(&shape, limits).map_err(at)?;
        let mut parameters = text.parameters;
        let size = parameters.remove("binary_data_size");

        let data = match (text.data, size, raw) {
            (Some(data), None, _) => {
                let text = self.original.slice(self.range(data.get()));
                let layout = layout::check(&text, datatype, &shape, elements, limits).map_err(at)?;
                TensorData::Json { text, layout }
            }
            (None, Some(size), Some(rest)) => {
                let bytes = take_raw(rest, &size).map_err(at)?;
                transcode::check_raw(&bytes, datatype, elements)
                    .map_err(|message| at(ParseError::malformed(message)))?;
                TensorData::Raw(bytes)
            }
            (Some(_), Some(_), _) => {
                return Err(at(ParseError::malformed("has both data and binary_data_size")));
            }
            (None, Some(_), None) => {
                return Err(at(ParseError::malformed(
                    "has binary_data_size, but there is no header Inference-Header-Content-Length",
                )));
            }
            // The data of a tensor in shared memory is not in the body, and the request is sent alone.
            (None, None, _) if parameters.contains_key("shared_memory_region") => {
                TensorData::Raw(Bytes::new())
            }
            (None, None, _) => {
                return Err(at(ParseError::malformed("has neither data nor binary_data_size")));
            }
        };
        Ok(Tensor { name, datatype, shape, parameters, data })
    }
}

/// Takes `size` bytes off the front of the raw section.
fn take_raw(rest: &mut Bytes, size: &Parameter) -> Result<Bytes, ParseError> {
    let wanted = size
        .as_u64()
        .and_then(|size| usize::try_from(size).ok())
        .ok_or_else(|| ParseError::malformed("binary_data_size is not a non-negative integer"))?;
    if wanted > rest.len() {
        let left = rest.len();
        return Err(ParseError::malformed(format!(
            "binary_data_size is {wanted}, but only {left} bytes are left"
        )));
    }
    Ok(rest.split_to(wanted))
}

//! Reads V2 binary requests: a JSON header, then raw tensors.

use bytes::Bytes;

use super::tensors;
use crate::request::{Parts, ReadRequest};
use crate::tensor::checked_elements;
use crate::{
    InferRequest, Limits, ModelSignature, Parameter, ParseError, Target, Tensor, TensorData, TensorSignature,
    WireFormat, transcode,
};

/// Reads a V2 binary inference request: `header_length` bytes of JSON (the header
/// `Inference-Header-Content-Length`), then the raw tensors in the order in which the JSON names them. Inputs with
/// JSON `data` may stand between them.
///
/// # Errors
/// Returns [`ParseError`] where the request is malformed (forward it alone) or exceeds `limits` (answer it).
pub fn parse_binary(
    target: &Target,
    header_length: usize,
    body: Bytes,
    limits: &Limits,
) -> Result<InferRequest, ParseError> {
    if body.len() > limits.body_bytes {
        return Err(ParseError::too_large(body.len(), limits.body_bytes));
    }
    if header_length > limits.header_bytes {
        let limit = limits.header_bytes;
        return Err(ParseError::limit(format!(
            "the JSON part has {header_length} bytes, the limit is {limit}"
        )));
    }
    if header_length > body.len() {
        return Err(ParseError::malformed(format!(
            "Inference-Header-Content-Length is {header_length}, but the body has {} bytes",
            body.len()
        )));
    }
    let parts = |read, body| Parts {
        format: WireFormat::Binary,
        target: target.clone(),
        read,
        body,
        header_length: Some(header_length),
    };
    if header_length == 0 {
        return Ok(parts(None, body).assemble());
    }
    let text = body.slice(..header_length);
    let raw = body.slice(header_length..);
    let read = tensors::read_request(&text, Some(raw), limits)?;
    Ok(parts(Some(read), body).assemble())
}

/// Reads a raw binary request (`Inference-Header-Content-Length: 0`): the body is one row of the model's only input, and
/// all outputs are wanted raw. `signature`: the model's metadata, where it is known. Where it is not, or the body does not
/// fit it, the request must not be merged ([`crate::Alone::RawBinary`]).
///
/// # Errors
/// Returns [`ParseError`] where the body exceeds `limits`.
pub fn parse_raw(
    target: &Target,
    body: Bytes,
    limits: &Limits,
    signature: Option<&ModelSignature>,
) -> Result<InferRequest, ParseError> {
    let input = match signature.map(|signature| &signature.inputs[..]) {
        Some([input]) if body.len() <= limits.body_bytes => one_row(input, &body, limits),
        _ => None,
    };
    let Some(input) = input else { return parse_binary(target, 0, body, limits) };
    let read = ReadRequest {
        inputs: vec![input],
        parameters: [("binary_data_output".to_owned(), Parameter::Bool(true))].into(),
        ..Default::default()
    };
    let target = target.clone();
    Ok(Parts { format: WireFormat::Binary, target, read: Some(read), body, header_length: Some(0) }
        .assemble())
}

/// Reads the body as one row; `None` where it does not fit the input. At most one dimension of the row may vary: it follows
/// from the body's length. For BYTES the body is the only element, without the length that otherwise precedes it.
fn one_row(input: &TensorSignature, body: &Bytes, limits: &Limits) -> Option<Tensor> {
    let row = input.row_shape()?;
    let (shape, raw) = match input.datatype.size_bytes() {
        None => {
            let length = u32::try_from(body.len()).ok()?;
            let raw = [&length.to_le_bytes(), &body[..]].concat();
            (vec![1; input.shape.len()], Bytes::from(raw))
        }
        Some(size) => {
            let known = row
                .iter()
                .flatten()
                .try_fold(size as u64, |product, dim| product.checked_mul(*dim))
                .filter(|known| *known > 0)?;
            let free = row.iter().filter(|dim| dim.is_none()).count();
            let rest = (body.len() as u64).checked_div(known).filter(|rest| free == 1 || *rest == 1)?;
            if free > 1 || rest == 0 {
                return None;
            }
            let shape = row.iter().map(|dim| dim.unwrap_or(rest));
            (std::iter::once(1).chain(shape).collect(), body.clone())
        }
    };
    if !input.admits(&shape) {
        return None;
    }
    let elements = checked_elements(&shape, limits).ok()?;
    transcode::check_raw(&raw, input.datatype, elements).ok()?;
    Some(Tensor {
        name: input.name.clone(),
        datatype: input.datatype,
        shape,
        parameters: Default::default(),
        data: TensorData::Raw(raw),
    })
}

//! Counts what an encoded message contains before memory is spent on decoding it: on the wire an empty tensor takes 2
//! bytes and an element 1 byte; decoded they take about a hundred and up to 32 bytes.

use bytes::{Buf, Bytes};
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use crate::{Limits, ParseError, limits};

/// Field numbers of `ModelInferRequest`.
mod request {
    pub(super) const PARAMETERS: u32 = 4;
    pub(super) const INPUTS: u32 = 5;
    pub(super) const OUTPUTS: u32 = 6;
    pub(super) const RAW_INPUT_CONTENTS: u32 = 7;
}

/// Field numbers of an input; an output's parameters have another number.
mod tensor {
    pub(super) const SHAPE: u32 = 3;
    pub(super) const PARAMETERS: u32 = 4;
    pub(super) const CONTENTS: u32 = 5;
    pub(super) const PARAMETERS_OF_OUTPUT: u32 = 2;
}

/// Returns how many bytes of a `ModelInferRequest` (or of a response) decoding looks at: all but its raw contents. Only
/// the first 1024 fields are told apart; all bytes behind them are counted.
pub fn bytes_to_read(message: &Bytes) -> usize {
    let mut rest = message.clone();
    let mut raw = 0;
    for _ in 0..1024 {
        let Ok((field, wire_type)) = decode_key(&mut rest) else { break };
        if wire_type != WireType::LengthDelimited {
            if skip_field(wire_type, field, &mut rest, DecodeContext::default()).is_err() {
                break;
            }
            continue;
        }
        let length = decode_varint(&mut rest).ok().and_then(|length| usize::try_from(length).ok());
        let Some(length) = length.filter(|&length| length <= rest.len()) else { break };
        rest.advance(length);
        raw += if field == request::RAW_INPUT_CONTENTS { length } else { 0 };
    }
    message.len() - raw
}

/// Returns the bytes of memory that the elements of a `ModelInferRequest` take once they are decoded: 0 where all contents
/// are raw, because those are slices of the message.
///
/// # Errors
/// [`ParseError`]: malformed, more tensors or parameters than `limits` allow, or elements of more than
/// `limits.body_bytes`.
pub(super) fn memory_of_elements(message: &Bytes, limits: &Limits) -> Result<usize, ParseError> {
    let (mut tensors, mut parameters, mut elements) = ([0usize; 8], 0usize, 0usize);
    walk(message.clone(), |field, content| {
        let Some(content) = content else { return Ok(()) };
        if let Some(count) = tensors.get_mut(field as usize) {
            *count += 1;
        }
        match field {
            request::PARAMETERS => {
                parameters += 1;
                check_parameters(parameters, limits)
            }
            request::INPUTS => {
                elements += of_input(content, limits)?;
                check_elements(elements, limits)
            }
            request::OUTPUTS => of_output(content, limits),
            _ => Ok(()),
        }
    })?;
    let [.., inputs, outputs, raw] = tensors;
    if inputs.max(outputs).max(raw) > limits.tensors {
        return Err(ParseError::limit(format!("more than {} tensors ({})", limits.tensors, limits::TENSORS)));
    }
    Ok(elements)
}

fn of_input(input: Bytes, limits: &Limits) -> Result<usize, ParseError> {
    let (mut parameters, mut elements) = (0, 0);
    walk(input, |field, content| {
        match (field, content) {
            (tensor::PARAMETERS, _) => parameters += 1,
            (tensor::SHAPE, content) => {
                elements += content.map_or(1, |packed| varints(&packed)) * size_of::<i64>()
            }
            (tensor::CONTENTS, Some(contents)) => elements += of_contents(contents)?,
            _ => {}
        }
        check_parameters(parameters, limits)
    })?;
    Ok(elements)
}

fn of_output(output: Bytes, limits: &Limits) -> Result<(), ParseError> {
    let mut parameters = 0;
    walk(output, |field, _| {
        parameters += usize::from(field == tensor::PARAMETERS_OF_OUTPUT);
        check_parameters(parameters, limits)
    })
}

/// Returns the bytes of memory that the elements of an `InferTensorContents` take. Numbers are packed in one field, or each
/// is a field of its own.
fn of_contents(contents: Bytes) -> Result<usize, ParseError> {
    let mut bytes = 0;
    walk(contents, |field, content| {
        bytes += match (field, content) {
            // BOOL, INT32, INT64, UINT32, UINT64.
            (1, content) => content.map_or(1, |packed| varints(&packed)),
            (2 | 4, content) => content.map_or(1, |packed| varints(&packed)) * size_of::<u32>(),
            (3 | 5, content) => content.map_or(1, |packed| varints(&packed)) * size_of::<u64>(),
            // FP32, FP64: they have the same size in memory as on the wire.
            (6, content) => content.map_or(size_of::<f32>(), |packed| packed.len()),
            (7, content) => content.map_or(size_of::<f64>(), |packed| packed.len()),
            // BYTES: each is a slice of the message, and later a copy with its length before it.
            (8, Some(element)) => size_of::<Bytes>() + size_of::<u32>() + element.len(),
            _ => 0,
        };
        Ok(())
    })?;
    Ok(bytes)
}

/// Counts varints: the last byte of each is the only one whose high bit is 0.
fn varints(packed: &[u8]) -> usize {
    packed.iter().map(|byte| usize::from(*byte < 0x80)).sum()
}

fn check_parameters(count: usize, limits: &Limits) -> Result<(), ParseError> {
    if count > limits.parameters {
        let (most, setting) = (limits.parameters, limits::PARAMETERS);
        return Err(ParseError::limit(format!("more than {most} parameters ({setting})")));
    }
    Ok(())
}

fn check_elements(bytes: usize, limits: &Limits) -> Result<(), ParseError> {
    if bytes > limits.body_bytes {
        return Err(ParseError::too_many_elements(limits.body_bytes));
    }
    Ok(())
}

/// Calls `visit` with the number of each field of a message and its content (not copied), which is `None` for a field that
/// is a number.
fn walk(
    mut message: Bytes,
    mut visit: impl FnMut(u32, Option<Bytes>) -> Result<(), ParseError>,
) -> Result<(), ParseError> {
    let malformed =
        |error: prost::DecodeError| ParseError::malformed(format!("not a valid ModelInferRequest: {error}"));
    while message.has_remaining() {
        let (field, wire_type) = decode_key(&mut message).map_err(malformed)?;
        if wire_type == WireType::LengthDelimited {
            let length = decode_varint(&mut message).map_err(malformed)?;
            let length = usize::try_from(length).ok().filter(|&length| length <= message.len());
            let length = length.ok_or_else(|| ParseError::malformed("the message is cut off"))?;
            visit(field, Some(message.split_to(length)))?;
        } else {
            skip_field(wire_type, field, &mut message, DecodeContext::default()).map_err(malformed)?;
            visit(field, None)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::grpc::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
    use crate::grpc::{InferTensorContents, ModelInferRequest};

    fn request(contents: InferTensorContents, shape: Vec<i64>) -> Bytes {
        let input = InferInputTensor { shape, contents: Some(contents), ..Default::default() };
        ModelInferRequest { inputs: vec![input], ..Default::default() }.encode_to_vec().into()
    }

    fn memory(message: &Bytes) -> usize {
        memory_of_elements(message, &Limits::UNBOUNDED).unwrap()
    }

    #[test]
    fn each_kind_of_element_counts_as_what_it_takes_in_memory() {
        let none = InferTensorContents::default;
        for (contents, bytes) in [
            (InferTensorContents { bool_contents: vec![true; 3], ..none() }, 3),
            (InferTensorContents { int_contents: vec![-1, 2, i32::MAX], ..none() }, 12),
            (InferTensorContents { int64_contents: vec![0, -1, i64::MIN], ..none() }, 24),
            (InferTensorContents { uint_contents: vec![0, 300], ..none() }, 8),
            (InferTensorContents { uint64_contents: vec![0, u64::MAX], ..none() }, 16),
            (InferTensorContents { fp32_contents: vec![0.0, 1.5], ..none() }, 8),
            (InferTensorContents { fp64_contents: vec![0.0, 1.5], ..none() }, 16),
            (
                InferTensorContents {
                    bytes_contents: vec![Bytes::new(), Bytes::from_static(b"ab")],
                    ..none()
                },
                2 * (size_of::<Bytes>() + 4) + 2,
            ),
        ] {
            assert_eq!(memory(&request(contents.clone(), Vec::new())), bytes, "{contents:?}");
        }
        assert_eq!(memory(&request(none(), vec![1, 2, 3])), 24);
    }

    #[test]
    fn numbers_that_are_not_packed_count_alike() {
        // Field 5 (contents) of field 5 (an input): three times field 3 (INT64), each with its own key.
        let message = Bytes::from_static(&[0x2a, 8, 0x2a, 6, 0x18, 1, 0x18, 2, 0x18, 3]);
        let decoded = ModelInferRequest::decode(message.clone()).unwrap();
        assert_eq!(decoded.inputs[0].contents.as_ref().unwrap().int64_contents, [1, 2, 3]);
        assert_eq!(memory(&message), 24);
    }

    #[test]
    fn elements_of_more_than_a_body_are_refused_however_short_they_are_written() {
        let limits = Limits { body_bytes: 1024, ..Limits::UNBOUNDED };
        let of = |count| InferTensorContents { int64_contents: vec![0; count], ..Default::default() };
        assert!(memory_of_elements(&request(of(128), Vec::new()), &limits).is_ok());
        let message = request(of(129), Vec::new());
        assert!(message.len() < 256);
        let error = memory_of_elements(&message, &limits).unwrap_err();
        assert!(error.to_string().contains("maxBodyBytes") && !error.is_forwardable(), "{error}");
        let shape = request(InferTensorContents::default(), vec![0; 129]);
        assert!(memory_of_elements(&shape, &limits).is_err());
    }

    #[test]
    fn raw_contents_are_not_read_and_take_no_memory() {
        let raw = Bytes::from(vec![7; 1000]);
        let message = ModelInferRequest {
            model_name: "m".into(),
            inputs: vec![InferInputTensor::default()],
            outputs: vec![InferRequestedOutputTensor::default()],
            raw_input_contents: vec![raw],
            ..Default::default()
        };
        let message = Bytes::from(message.encode_to_vec());
        assert_eq!(memory(&message), 0);
        assert_eq!(bytes_to_read(&message), message.len() - 1000);
        let cut = message.slice(..message.len() - 1);
        assert_eq!(bytes_to_read(&cut), cut.len(), "what is cut off counts whole");
        let typed =
            request(InferTensorContents { fp32_contents: vec![1.0; 9], ..Default::default() }, vec![9]);
        assert_eq!(bytes_to_read(&typed), typed.len());
    }
}

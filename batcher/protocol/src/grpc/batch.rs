//! Writes a batch as a gRPC `ModelInferRequest`: the message's first fields are encoded, and `raw_input_contents` are the
//! clients' own buffers.

use bytes::{BufMut, Bytes};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::model_infer_request::{InferInputTensor, InferRequestedOutputTensor};
use super::{CONTENT_TYPE, FrameError, ModelInferRequest, frame_prefix};
use crate::MergeError;
use crate::chunks::Chunks;
use crate::merge::Column;
use crate::parameters::to_grpc;
use crate::wire_protocol::{Batch, BatchBody};

/// Field number of `raw_input_contents`.
const RAW_INPUT_CONTENTS: u32 = 7;

pub(super) fn write(batch: &Batch<'_>) -> Result<BatchBody, MergeError> {
    let Batch { first, id, columns } = *batch;
    let raw = columns.iter().map(Column::raw).collect::<Result<Vec<_>, _>>()?;
    let input = |column: &Column<'_>| InferInputTensor {
        name: column.first.name.clone(),
        datatype: column.first.datatype.name().to_owned(),
        shape: column.shape.iter().map(|dim| dim.cast_signed()).collect(),
        parameters: to_grpc(&column.first.parameters),
        contents: None,
    };
    let output = |output: &crate::RequestedOutput| InferRequestedOutputTensor {
        name: output.name.clone(),
        parameters: to_grpc(&output.parameters),
    };
    let head = ModelInferRequest {
        model_name: first.target.model.clone(),
        model_version: first.target.version.clone().unwrap_or_default(),
        id: id.unwrap_or_default().to_owned(),
        parameters: to_grpc(&first.parameters),
        inputs: columns.iter().map(input).collect(),
        outputs: first.outputs.iter().map(output).collect(),
        raw_input_contents: Vec::new(),
    };
    let too_large = |error: FrameError| MergeError { index: 0, reason: error.to_string() };
    let chunks = framed(&head.encode_to_vec(), RAW_INPUT_CONTENTS, &raw).map_err(too_large)?;
    Ok(BatchBody { chunks, header_length: None, content_type: CONTENT_TYPE })
}

/// Writes a framed message: its encoded `head`, then for each tensor a `bytes` field with the number `field`, which consists
/// of the tensor's pieces.
pub(super) fn framed(head: &[u8], field: u32, tensors: &[Vec<Bytes>]) -> Result<Chunks, FrameError> {
    let mut keys = Vec::with_capacity(tensors.len());
    let mut length = head.len();
    for pieces in tensors {
        let bytes: usize = pieces.iter().map(Bytes::len).sum();
        let mut key = Vec::with_capacity(12);
        encode_key(field, WireType::LengthDelimited, &mut key);
        encode_varint(bytes as u64, &mut key);
        length += key.len() + bytes;
        keys.push(key);
    }
    let mut chunks = Chunks::default();
    chunks.open.reserve(length.min(4096));
    chunks.open.put_slice(&frame_prefix(length)?);
    chunks.copy(head);
    for (key, pieces) in keys.iter().zip(tensors) {
        chunks.copy(key);
        for piece in pieces {
            chunks.share(piece);
        }
    }
    Ok(chunks)
}

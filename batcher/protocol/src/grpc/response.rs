//! Writes the response to a gRPC client: a `ModelInferResponse` with raw contents.

use bytes::Bytes;
use prost::Message;

use super::batch::framed;
use super::model_infer_response::InferOutputTensor;
use super::{CONTENT_TYPE, FrameError, ModelInferResponse};
use crate::parameters::to_grpc;
use crate::split::{OutputPart, Piece};
use crate::{InferRequest, InferResponse, PartError, ResponsePart, WireFormat, transcode};

/// Field number of `raw_output_contents`.
const RAW_OUTPUT_CONTENTS: u32 = 6;

pub(super) fn write(
    response: &InferResponse,
    request: &InferRequest,
    outputs: &[OutputPart<'_>],
) -> Result<ResponsePart, PartError> {
    let raw = |part: &OutputPart<'_>| match part.piece {
        Piece::Raw(bytes) => Ok(vec![bytes.clone()]),
        Piece::Json(items) => transcode::json_to_raw(items, part.output.datatype)
            .map(|bytes: Bytes| vec![bytes])
            .map_err(|reason| PartError { output: part.output.name.clone(), reason }),
    };
    let raw = outputs.iter().map(raw).collect::<Result<Vec<_>, _>>()?;
    let output = |part: &OutputPart<'_>| InferOutputTensor {
        name: part.output.name.clone(),
        datatype: part.output.datatype.name().to_owned(),
        shape: part.shape.iter().map(|dim| dim.cast_signed()).collect(),
        parameters: to_grpc(&part.output.parameters),
        contents: None,
    };
    let head = ModelInferResponse {
        model_name: response.model_name.clone().unwrap_or_else(|| request.target.model.clone()),
        model_version: response.model_version.clone().unwrap_or_default(),
        id: request.id.clone().unwrap_or_default(),
        parameters: to_grpc(&response.parameters),
        outputs: outputs.iter().map(output).collect(),
        raw_output_contents: Vec::new(),
    };
    let too_large = |error: FrameError| PartError {
        output: outputs.first().map(|part| part.output.name.clone()).unwrap_or_default(),
        reason: error.to_string(),
    };
    let chunks = framed(&head.encode_to_vec(), RAW_OUTPUT_CONTENTS, &raw).map_err(too_large)?;
    let (chunks, body_bytes) = chunks.finish();
    Ok(ResponsePart {
        format: WireFormat::Grpc,
        header_length: None,
        content_type: CONTENT_TYPE,
        chunks,
        body_bytes,
    })
}

//! A gRPC client's answer: a `ModelInferResponse` with raw contents.

use bytes::Bytes;
use prost::Message;

use super::{Piece, ResponsePart, Share};
use crate::grpc::model_infer_response::InferOutputTensor;
use crate::grpc::{CONTENT_TYPE, ModelInferResponse};
use crate::merge::grpc::framed;
use crate::parameters::to_grpc;
use crate::{InferRequest, InferResponse, PartError, WireFormat, transcode};

/// Field number of `raw_output_contents`.
const RAW_OUTPUT_CONTENTS: u32 = 6;

pub(super) fn answer(
    response: &InferResponse,
    request: &InferRequest,
    shares: &[Share<'_>],
) -> Result<ResponsePart, PartError> {
    let raw = |share: &Share<'_>| match share.piece {
        Piece::Raw(bytes) => Ok(vec![bytes.clone()]),
        Piece::Json(items) => transcode::json_to_raw(items, share.output.datatype)
            .map(|bytes: Bytes| vec![bytes])
            .map_err(|reason| PartError { output: share.output.name.clone(), reason }),
    };
    let raw = shares.iter().map(raw).collect::<Result<Vec<_>, _>>()?;
    let output = |share: &Share<'_>| InferOutputTensor {
        name: share.output.name.clone(),
        datatype: share.output.datatype.name().to_owned(),
        shape: share.shape.iter().map(|dim| dim.cast_signed()).collect(),
        parameters: to_grpc(&share.output.parameters),
        contents: None,
    };
    let head = ModelInferResponse {
        model_name: response.model_name.clone().unwrap_or_else(|| request.target.model.clone()),
        model_version: response.model_version.clone().unwrap_or_default(),
        id: request.id.clone().unwrap_or_default(),
        parameters: to_grpc(&response.parameters),
        outputs: shares.iter().map(output).collect(),
        raw_output_contents: Vec::new(),
    };
    let too_large = |error: crate::grpc::FrameError| PartError {
        output: shares.first().map(|share| share.output.name.clone()).unwrap_or_default(),
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

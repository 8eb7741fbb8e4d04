//! Writes the response to a REST client: JSON, with raw tensors behind it where the client asked for them.

use bytes::Bytes;

use super::content_type;
use crate::chunks::Chunks;
use crate::json::write;
use crate::split::{OutputPart, Piece};
use crate::{InferRequest, InferResponse, Parameter, PartError, ResponsePart, transcode};

pub(super) fn write(
    response: &InferResponse,
    request: &InferRequest,
    outputs: &[OutputPart<'_>],
) -> Result<ResponsePart, PartError> {
    let mut chunks = Chunks::default();
    let out = &mut chunks.open;
    // A response without the model's name, which the specification does not allow, gets the target's name.
    out.extend_from_slice(b"{\"model_name\":");
    write::string(out, response.model_name.as_deref().unwrap_or(&request.target.model));
    if let Some(version) = &response.model_version {
        out.extend_from_slice(b",\"model_version\":");
        write::string(out, version);
    }
    if let Some(id) = &request.id {
        out.extend_from_slice(b",\"id\":");
        write::string(out, id);
    }
    write::parameters(out, &response.parameters, &[]);
    chunks.copy(b",\"outputs\":[");
    let mut raw: Vec<Bytes> = Vec::new();
    for (at, part) in outputs.iter().enumerate() {
        if at > 0 {
            chunks.copy(b",");
        }
        let output = part.output;
        let fail = |reason: String| PartError { output: output.name.clone(), reason };
        write::tensor_head(&mut chunks.open, output, &part.shape);
        if request.wants_raw(&output.name) {
            let bytes = match part.piece {
                Piece::Raw(bytes) => bytes.clone(),
                Piece::Json(items) => transcode::json_to_raw(items, output.datatype).map_err(fail)?,
            };
            let size = Parameter::Uint(bytes.len() as u64);
            write::parameters(&mut chunks.open, &output.parameters, &[("binary_data_size", size)]);
            raw.push(bytes);
        } else {
            write::parameters(&mut chunks.open, &output.parameters, &[]);
            chunks.copy(b",\"data\":[");
            match part.piece {
                Piece::Json(items) => chunks.share(items),
                Piece::Raw(bytes) => transcode::raw_to_json(bytes, output.datatype, &mut chunks.open)
                    .map_err(|reason| fail(format!("{reason}; ask for it with binary_data")))?,
            }
            chunks.copy(b"]");
        }
        chunks.copy(b"}");
    }
    chunks.copy(b"]}");
    let header_length = (!raw.is_empty()).then(|| chunks.bytes());
    for bytes in &raw {
        chunks.share(bytes);
    }
    let content_type = content_type(header_length);
    let (chunks, body_bytes) = chunks.finish();
    Ok(ResponsePart { format: request.format, header_length, content_type, chunks, body_bytes })
}

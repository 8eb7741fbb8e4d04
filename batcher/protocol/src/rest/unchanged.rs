//! Passes on a REST request that is alone in its batch unchanged, where the model server reads its wire format, and its
//! response too. Where there is nothing to merge, nothing is written or read a second time.

use bytes::Bytes;

use super::{content_type, is_json_throughout};
use crate::chunks::Chunks;
use crate::json::write;
use crate::wire_protocol::BatchBody;
use crate::{InferRequest, ResponsePart, WireFormat};

/// Number of bytes at the beginning of a response in which its id is searched.
const ID_WITHIN_BYTES: usize = 1024;

/// Returns the wire format in which a request can be sent to a model server unchanged; `None` where it must be written
/// anew: the queue's parameters (`priority`, `timeout`) are not forwarded, and a selection of outputs must hold also at
/// model servers that ignore it.
fn format_of(request: &InferRequest, upstream: WireFormat) -> Option<WireFormat> {
    let is_ours = request.priority.is_some() || request.timeout_us.is_some();
    if is_ours || !request.outputs.is_empty() || !request.is_verbatim {
        return None;
    }
    match (request.format, upstream) {
        (WireFormat::Json, WireFormat::Json | WireFormat::Binary) => {
            is_json_throughout(request).then_some(WireFormat::Json)
        }
        (WireFormat::Binary, WireFormat::Binary) => request.binary_data_output.then_some(WireFormat::Binary),
        _ => None,
    }
}

/// Returns the unchanged body for the model server and its wire format; `None` where the request must be written anew.
pub(super) fn batch(request: &InferRequest, upstream: WireFormat) -> Option<(BatchBody, WireFormat)> {
    let format = format_of(request, upstream)?;
    let (chunks, header_length) = (Chunks::whole(&request.body), request.header_length);
    Some((BatchBody { chunks, header_length, content_type: content_type(header_length) }, format))
}

/// Returns the model server's response unchanged for the client whose request [`batch`] sent in the wire format `sent`;
/// `None` where an id must be added that the model server has not repeated.
pub(super) fn response(
    request: &InferRequest,
    sent: WireFormat,
    header_length: Option<usize>,
    body: &Bytes,
) -> Option<ResponsePart> {
    if format_of(request, sent)? != sent || request.id.as_ref().is_some_and(|id| !repeats(body, id)) {
        return None;
    }
    let (chunks, body_bytes) = Chunks::whole(body).finish();
    let content_type = content_type(header_length);
    Some(ResponsePart { format: request.format, header_length, content_type, chunks, body_bytes })
}

/// Returns whether a response has this id within its first bytes: model servers write ids before outputs.
fn repeats(response: &[u8], id: &str) -> bool {
    let mut quoted = Vec::with_capacity(id.len() + 2);
    write::string(&mut quoted, id);
    let head = &response[..response.len().min(ID_WITHIN_BYTES)];
    let is_key = |text: &[u8]| {
        let key = text.trim_ascii_end().strip_suffix(b":").map(<[u8]>::trim_ascii_end);
        key.is_some_and(|key| key.ends_with(b"\"id\""))
    };
    let mut quotes = head.iter().enumerate().filter(|(_, byte)| **byte == b'"');
    quotes.any(|(at, _)| head[at..].starts_with(&quoted) && is_key(&head[..at]))
}

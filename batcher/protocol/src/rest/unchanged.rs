//! A REST request that has a batch to itself, at a model server that reads its wire format: its body goes as it came,
//! and the response comes back as it is. Nothing is written anew or read a second time where there is nothing to merge.

use bytes::Bytes;

use super::{content_type, is_json_throughout};
use crate::chunks::Chunks;
use crate::json::write;
use crate::wire_protocol::BatchBody;
use crate::{InferRequest, ResponsePart, WireFormat};

/// Bytes at the beginning of a response in which its id is looked for.
const ID_WITHIN_BYTES: usize = 1024;

/// Returns the wire format in which a request can go to a model server as it is; `None` where something has to be
/// written anew: the queue's parameters (`priority`, `timeout`) stay here, and a selection of outputs must hold also at
/// servers that ignore it.
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

/// Returns what goes to the model server, and in which wire format.
pub(super) fn batch(request: &InferRequest, upstream: WireFormat) -> Option<(BatchBody, WireFormat)> {
    let format = format_of(request, upstream)?;
    let (chunks, header_length) = (Chunks::whole(&request.body), request.header_length);
    Some((BatchBody { chunks, header_length, content_type: content_type(header_length) }, format))
}

/// Returns the client's response where [`batch`] sent its request in the wire format `sent`; `None` where an id has to
/// be added that the model server has not repeated.
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

/// Returns whether a response has this id, as far as its beginning shows: ids stand before the outputs.
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

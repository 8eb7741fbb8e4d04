//! A REST request that has a batch to itself, at a server that reads its form: its body goes as it came, and the
//! answer comes back as it is. Nothing is written anew or read a second time where there is nothing to merge.

use bytes::Bytes;

use crate::binary::content_type;
use crate::chunks::Chunks;
use crate::json::write;
use crate::merge::{BatchRows, Body, is_json_throughout};
use crate::{InferRequest, ResponsePart, WireFormat};

/// So far an answer is searched for its id.
const ID_WITHIN_BYTES: usize = 1024;

/// The form in which a request can go to a server as it is; `None` where something has to be written anew: the
/// queue's parameters (`priority`, `timeout`) stay here, a selection of outputs holds also at servers that do not
/// heed it, and gRPC and V1 have answers of several kinds.
fn form_of(request: &InferRequest, upstream: WireFormat) -> Option<WireFormat> {
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

/// What goes to the server, and in which form.
pub(crate) fn unchanged_body(request: &InferRequest, upstream: WireFormat) -> Option<(Body, WireFormat)> {
    let format = form_of(request, upstream)?;
    let (chunks, header_length) = (Chunks::whole(&request.body), request.header_length);
    Some((Body { chunks, header_length, content_type: content_type(header_length) }, format))
}

/// The client's answer, where [`crate::merge`] sent the only request of a batch as it came: the server's `body` and
/// its `header_length`. `format` and `rows` are those of [`crate::Merged`]. `None`: read the answer and
/// [`split`](crate::split()) it, which also adds an id that the server has not repeated.
pub fn unchanged_response(
    request: &InferRequest,
    format: WireFormat,
    rows: &BatchRows,
    header_length: Option<usize>,
    body: &Bytes,
) -> Option<ResponsePart> {
    if rows.requests.len() != 1 || rows.padding > 0 || form_of(request, format)? != format {
        return None;
    }
    if request.id.as_ref().is_some_and(|id| !repeats(body, id)) {
        return None;
    }
    let (chunks, body_bytes) = Chunks::whole(body).finish();
    let content_type = content_type(header_length);
    Some(ResponsePart { format: request.format, header_length, content_type, chunks, body_bytes })
}

/// Whether an answer has this id, as far as its head tells: ids stand before the outputs.
fn repeats(answer: &[u8], id: &str) -> bool {
    let mut quoted = Vec::with_capacity(id.len() + 2);
    write::string(&mut quoted, id);
    let head = &answer[..answer.len().min(ID_WITHIN_BYTES)];
    let is_key = |text: &[u8]| {
        let key = text.trim_ascii_end().strip_suffix(b":").map(<[u8]>::trim_ascii_end);
        key.is_some_and(|key| key.ends_with(b"\"id\""))
    };
    let mut quotes = head.iter().enumerate().filter(|(_, byte)| **byte == b'"');
    quotes.any(|(at, _)| head[at..].starts_with(&quoted) && is_key(&head[..at]))
}

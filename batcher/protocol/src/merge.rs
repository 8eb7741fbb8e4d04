//! Merges requests into one body for a model server.

mod columns;
mod padding;

use bytes::Bytes;

pub(crate) use columns::Column;

use crate::wire_protocol::{Batch, BatchBody, Transport};
use crate::{BatchRows, InferRequest, MergeError, WireFormat};

/// One request to a model server, made of many.
#[derive(Debug, Clone)]
pub struct Merged {
    /// The wire format of the body: for [`WireFormat::Binary`] and JSON clients alone it is [`WireFormat::Json`].
    pub format: WireFormat,
    /// The body, for a vectored write; tensors are the clients' own buffers. gRPC: with the 5-byte prefix.
    pub chunks: Vec<Bytes>,
    /// Sum of the chunks' lengths.
    pub body_bytes: usize,
    /// Value of `Inference-Header-Content-Length`; `None` where that header must not be sent.
    pub header_length: Option<usize>,
    /// Value of `Content-Type`.
    pub content_type: &'static str,
    /// Whose rows are where; [`crate::split`] wants it back.
    pub rows: BatchRows,
}

impl Merged {
    /// Rows of the whole batch, padding included.
    pub fn total_rows(&self) -> usize {
        self.rows.total()
    }
}

/// Makes one upstream body of requests whose keys are equal (see [`crate::MergeKey`]); `upstream` is the best wire format
/// that the model server reads. One request alone is allowed, and then need not be mergeable: that is how a gRPC
/// client reaches a REST-only server. Raw binary requests are the exception: nothing is known of their tensors;
/// forward their body.
///
/// Clients that all sent JSON and want JSON are sent as JSON text, spliced, wherever the server speaks REST; all
/// others meet in raw bytes. `priority` and `timeout` are not forwarded, and an id only where a request is alone.
/// One request whose wire format the server reads, and of which nothing has to stay here, goes as it came.
///
/// # Errors
/// [`MergeError`] names the request to send alone: a JSON number that its datatype cannot hold, a datatype that the
/// model server's wire format cannot carry, an empty slice.
pub fn merge(requests: &[&InferRequest], upstream: WireFormat) -> Result<Merged, MergeError> {
    merge_padded(requests, upstream, 0)
}

/// As [`merge`], for a server that takes batches of some sizes only: a batch of fewer than `to_rows` rows is filled
/// up to that many by repeating its last row, which is a valid input wherever the last request is one (zeros need
/// not be). [`split`](crate::split()) drops what the server answers for the filling. A batch of `to_rows` rows or more is left as it is.
///
/// # Errors
/// As [`merge`]; and a request whose rows are not known ([`InferRequest::alone`]) cannot be padded.
pub fn merge_padded(
    requests: &[&InferRequest],
    upstream: WireFormat,
    to_rows: usize,
) -> Result<Merged, MergeError> {
    let own: Vec<usize> = requests.iter().map(|request| request.rows).collect();
    let padding = to_rows.saturating_sub(own.iter().sum());
    let rows = BatchRows { requests: own, padding };
    if let Some(first) = requests.first().filter(|first| first.v1.is_some()) {
        return merge_texts(first, requests, upstream, rows);
    }
    if let ([alone], 0) = (requests, rows.padding)
        && let Some((body, format)) = alone.format.protocol().unchanged_batch(alone, upstream)
    {
        return Ok(body.into_merged(format, rows));
    }
    let last_row = match requests.last() {
        Some(last) if padding > 0 => padding::last_row(last, requests.len() - 1)?,
        _ => Vec::new(),
    };
    let columns = columns::align(requests, &rows, &last_row)?;
    let format = upstream.protocol().simpler_format(requests).unwrap_or(upstream);
    // Errors name it: a request that fails alone gets the text that the server would have given its client.
    let id = if let [alone] = requests { alone.id.as_deref() } else { None };
    let batch = Batch { first: requests[0], id, columns: &columns };
    Ok(format.protocol().write_batch(&batch)?.into_merged(format, rows))
}

/// Merges requests that have no tensors: their batch has their own wire format.
fn merge_texts(
    first: &InferRequest,
    requests: &[&InferRequest],
    upstream: WireFormat,
    rows: BatchRows,
) -> Result<Merged, MergeError> {
    if upstream.protocol().transport() == Transport::Grpc {
        let reason = "the model server speaks gRPC alone".into();
        return Err(MergeError { index: 0, reason });
    }
    columns::check_keys(requests)?;
    if let (Some(alone), 1..) = (first.alone, rows.padding) {
        let reason = format!("the request goes alone ({})", alone.as_str());
        return Err(MergeError { index: 0, reason });
    }
    let body = first.format.protocol().write_text_batch(requests, &rows)?;
    Ok(body.into_merged(first.format, rows))
}

impl BatchBody {
    fn into_merged(self, format: WireFormat, rows: BatchRows) -> Merged {
        let (header_length, content_type) = (self.header_length, self.content_type);
        let (chunks, body_bytes) = self.chunks.finish();
        Merged { format, chunks, body_bytes, header_length, content_type, rows }
    }
}

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
    /// Rows of each request; [`crate::split`] needs them.
    pub rows: BatchRows,
}

impl Merged {
    /// Returns the number of rows of the whole batch, padding included.
    pub fn total_rows(&self) -> usize {
        self.rows.total()
    }
}

/// Merges requests whose keys are equal (see [`crate::MergeKey`]) into one body for a model server; `upstream` is the best
/// wire format that the model server reads. A single request is allowed too and need not be mergeable: that is how a gRPC
/// client reaches a model server that has only REST. Raw binary requests are the exception: nothing is known of their
/// tensors, so forward their body.
///
/// If all clients sent JSON and want JSON, their texts are joined, wherever the model server has REST; otherwise all
/// tensors become raw bytes. `priority` and `timeout` are not forwarded, and an id only where a request is alone. A single
/// request whose wire format the model server reads, and of which nothing has to be left out, is sent unchanged.
///
/// # Errors
/// Returns [`MergeError`], which names the request to send alone, for a JSON number that its datatype cannot hold, a
/// datatype that the model server's wire format cannot carry, and an empty slice.
pub fn merge(requests: &[&InferRequest], upstream: WireFormat) -> Result<Merged, MergeError> {
    merge_padded(requests, upstream, 0)
}

/// Merges requests as [`merge`] does, for a model server that takes batches of certain sizes only: a batch of fewer than
/// `to_rows` rows is padded to `to_rows` by repeating its last row, which is a valid input wherever the last request is one
/// (zeros might not be). [`split`](crate::split()) drops the padding's rows of the response. A batch of `to_rows` rows or
/// more is not padded.
///
/// # Errors
/// Fails as [`merge`] does, and for a request whose rows are not known ([`InferRequest::alone`]), which cannot be padded.
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
    // The id is forwarded because errors name it: the client of a request that fails alone gets the model server's own text.
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

//! Many requests → one upstream body.

mod binary;
mod columns;
pub(crate) mod grpc;
mod json;
mod padding;

use bytes::Bytes;

use crate::unchanged::unchanged_body;
use crate::{InferRequest, MergeError, TensorData, WireFormat};

/// One upstream request made of many.
#[derive(Debug, Clone)]
pub struct Merged {
    /// What is on the wire: for [`WireFormat::Binary`] asked and JSON clients alone it is [`WireFormat::Json`].
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

/// How the rows of a batch are shared among its requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchRows {
    /// Rows of each request, in the order given.
    pub requests: Vec<usize>,
    /// Rows behind them that belong to nobody.
    pub padding: usize,
}

impl BatchRows {
    /// Rows of the whole batch, padding included.
    pub fn total(&self) -> usize {
        self.requests.iter().sum::<usize>() + self.padding
    }

    /// The runs of rows into which an output falls: one for each request, and the padding where there is any.
    pub(crate) fn runs(&self) -> impl Iterator<Item = usize> {
        self.requests.iter().copied().chain((self.padding > 0).then_some(self.padding))
    }
}

/// Makes one upstream body of requests whose keys are equal (see [`crate::MergeKey`]); `upstream` is the best form
/// that the model server reads. One request alone is allowed, and then need not be mergeable: that is how a gRPC
/// client reaches a REST-only server. Raw binary requests are the exception: nothing is known of their tensors;
/// forward their body.
///
/// Clients that all sent JSON and want JSON are sent as JSON text, spliced, wherever the server speaks REST; all
/// others meet in raw bytes. `priority` and `timeout` are not forwarded, and an id only where a request is alone.
/// One request whose form the server reads, and of which nothing has to stay here, goes as it came.
///
/// # Errors
/// [`MergeError`] names the request to send alone: a JSON number that its datatype cannot hold, a datatype without
/// a form upstream, an empty slice.
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
    if requests.first().is_some_and(|first| first.v1.is_some()) {
        return merge_v1(requests, upstream, rows);
    }
    if let ([alone], 0) = (requests, rows.padding)
        && let Some((body, format)) = unchanged_body(alone, upstream)
    {
        return Ok(body.into_merged(format, rows));
    }
    let last_row = match requests.last() {
        Some(last) if padding > 0 => padding::last_row(last, requests.len() - 1)?,
        _ => Vec::new(),
    };
    let columns = columns::align(requests, &rows, &last_row)?;
    let format = match upstream {
        WireFormat::Binary if requests.iter().all(|request| is_json_throughout(request)) => WireFormat::Json,
        other => other,
    };
    // Errors name it: a request that fails alone gets the text that the server would have given its client.
    let id = if let [alone] = requests { alone.id.as_deref() } else { None };
    let body = match format {
        WireFormat::Json => json::write(requests[0], id, &columns),
        WireFormat::Binary => binary::write(requests[0], id, &columns),
        WireFormat::Grpc => grpc::write(requests[0], id, &columns),
        WireFormat::V1 => {
            let reason = "the model server speaks V1 alone".into();
            Err(MergeError { index: 0, reason })
        }
    }?;
    Ok(body.into_merged(format, rows))
}

/// Requests that have no V2 tensors.
fn merge_v1(requests: &[&InferRequest], upstream: WireFormat, rows: BatchRows) -> Result<Merged, MergeError> {
    if upstream == WireFormat::Grpc {
        let reason = "the model server speaks gRPC alone".into();
        return Err(MergeError { index: 0, reason });
    }
    columns::check_keys(requests)?;
    if let (Some(alone), 1..) = (requests[0].alone, rows.padding) {
        let reason = format!("the request goes alone ({})", alone.as_str());
        return Err(MergeError { index: 0, reason });
    }
    Ok(crate::v1::write(requests, &rows)?.into_merged(WireFormat::V1, rows))
}

/// Whether a request's inputs are JSON text and its outputs wanted as such.
pub(crate) fn is_json_throughout(request: &InferRequest) -> bool {
    request.format != crate::WireFormat::Grpc
        && !request.wants_any_raw()
        && request.inputs.iter().all(|input| matches!(input.data, TensorData::Json { .. }))
}

/// A body of one form.
pub(crate) struct Body {
    pub(crate) chunks: crate::chunks::Chunks,
    pub(crate) header_length: Option<usize>,
    pub(crate) content_type: &'static str,
}

impl Body {
    fn into_merged(self, format: WireFormat, rows: BatchRows) -> Merged {
        let (header_length, content_type) = (self.header_length, self.content_type);
        let (chunks, body_bytes) = self.chunks.finish();
        Merged { format, chunks, body_bytes, header_length, content_type, rows }
    }
}

//! Many requests → one upstream body.

mod binary;
mod columns;
pub(crate) mod grpc;
mod json;

use bytes::Bytes;

use crate::{InferRequest, MergeError, TensorData, UpstreamForm};

/// One upstream request made of many.
#[derive(Debug, Clone)]
pub struct Merged {
    /// What is on the wire: for [`UpstreamForm::Binary`] asked and JSON clients alone it is [`UpstreamForm::Json`].
    pub form: UpstreamForm,
    /// The body, for a vectored write; tensors are the clients' own buffers. gRPC: with the 5-byte prefix.
    pub chunks: Vec<Bytes>,
    /// Sum of the chunks' lengths.
    pub body_bytes: usize,
    /// Value of `Inference-Header-Content-Length`; `None` where that header must not be sent.
    pub header_length: Option<usize>,
    /// Value of `Content-Type`.
    pub content_type: &'static str,
    /// Rows of each request, in the order given.
    pub rows: Vec<usize>,
}

impl Merged {
    /// Rows of the whole batch.
    pub fn total_rows(&self) -> usize {
        self.rows.iter().sum()
    }
}

/// Makes one upstream body of requests whose keys are equal (see [`crate::MergeKey`]); `upstream` is the best form
/// that the model server reads. One request alone is allowed, and then need not be mergeable: that is how a gRPC
/// client reaches a REST-only server. Raw binary requests are the exception: nothing is known of their tensors;
/// forward their body.
///
/// Clients that all sent JSON and want JSON are sent as JSON text, spliced, wherever the server speaks REST; all
/// others meet in raw bytes. Client ids, `priority` and `timeout` are not forwarded.
///
/// # Errors
/// [`MergeError`] names the request to send alone: a JSON number that its datatype cannot hold, a datatype without
/// a form upstream, an empty slice.
pub fn merge(requests: &[&InferRequest], upstream: UpstreamForm) -> Result<Merged, MergeError> {
    let columns = columns::align(requests)?;
    let form = match upstream {
        UpstreamForm::Binary if requests.iter().all(|request| is_json_throughout(request)) => {
            UpstreamForm::Json
        }
        other => other,
    };
    let body = match form {
        UpstreamForm::Json => json::write(requests[0], &columns),
        UpstreamForm::Binary => binary::write(requests[0], &columns),
        UpstreamForm::Grpc => grpc::write(requests[0], &columns),
    }?;
    let (chunks, body_bytes) = body.chunks.finish();
    Ok(Merged {
        form,
        chunks,
        body_bytes,
        header_length: body.header_length,
        content_type: body.content_type,
        rows: requests.iter().map(|request| request.rows).collect(),
    })
}

/// Whether a request's inputs are JSON text and its outputs wanted as such.
fn is_json_throughout(request: &InferRequest) -> bool {
    request.form != crate::Form::Grpc
        && !request.wants_any_raw()
        && request.inputs.iter().all(|input| matches!(input.data, TensorData::Json { .. }))
}

/// A body of one form.
struct Body {
    chunks: crate::chunks::Chunks,
    header_length: Option<usize>,
    content_type: &'static str,
}

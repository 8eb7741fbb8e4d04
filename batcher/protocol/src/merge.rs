//! Many requests → one upstream body.

use bytes::Bytes;

use crate::{InferRequest, MergeError, UpstreamForm};

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

/// Makes one upstream body of requests whose keys are equal (see [`crate::MergeKey`]); `upstream` is the best form that the model server
/// reads. One request alone is allowed, and then need not be mergeable: that is how a gRPC client reaches a REST-only server.
///
/// # Errors
/// [`MergeError`] names the request to send alone: a JSON number that its datatype cannot hold, a datatype without a form upstream.
///
/// # Panics
/// Never; an empty slice gives an empty body.
pub fn merge(requests: &[&InferRequest], upstream: UpstreamForm) -> Result<Merged, MergeError> {
    todo!()
}

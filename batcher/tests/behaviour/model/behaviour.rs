//! What the model server for tests does, and what it journals.

use std::sync::atomic::{AtomicBool, AtomicU64};

/// One call, in the order in which they came.
#[derive(Debug, Clone)]
pub struct Call {
    /// Which run of the server: 1 is the first.
    pub epoch: usize,
    pub ids: Vec<i64>,
    pub form: &'static str,
    /// Asked as its second model, `<name>-too`.
    pub too: bool,
    pub traceparent: Option<String>,
    pub authorization: Option<String>,
    /// All headers, of V2 over HTTP/1.1.
    pub headers: http::HeaderMap,
}

impl Call {
    pub fn is_warmup(&self) -> bool {
        self.ids.iter().all(|&id| id == 0)
    }
}

/// What can be changed while it runs.
pub struct Behaviour {
    pub alpha_us: AtomicU64,
    pub beta_us: AtomicU64,
    pub extensions: Vec<&'static str>,
    /// Refuse batches with this id.
    pub poison: Option<i64>,
    /// Close the connection of batches with this id, without an answer.
    pub breaks: Option<i64>,
    /// Never answer batches with this id.
    pub stalls: Option<i64>,
    /// Answer batches with this id with 502, as a proxy does whose worker died.
    pub bad_gateway: Option<i64>,
    /// Add an output with this many bytes per row, except to warm-up requests.
    pub row_bytes: usize,
    /// Answer one row only, whatever the batch.
    pub one_row_only: bool,
    /// Has V1 `:predict`, and no inputs in its V2 metadata.
    pub v1: bool,
    /// Know no V2 path; with `v1`.
    pub v1_alone: bool,
    /// Speak no HTTP/1.1.
    pub grpc_only: bool,
    /// Close each connection after one answer: `Connection: close`, GOAWAY.
    pub one_answer: bool,
    /// Answer no question for metadata.
    pub no_metadata: bool,
    /// Have no second model, from now on.
    pub too_is_gone: AtomicBool,
    /// Triton's model configuration: status and body of the answer; the gRPC one has what of it is known there.
    pub config: (u16, String),
    /// Shape of the input and of both outputs in the metadata.
    pub shape: [i64; 2],
    /// Elements of a row of `twice`, all the same; 0: as many as of `id`.
    pub wide: usize,
    /// A header without which nothing is answered.
    pub token: Option<(&'static str, &'static str)>,
    /// Answer steps of sequences with their number instead of `twice`.
    pub stateful: bool,
}

impl Default for Behaviour {
    fn default() -> Self {
        Self {
            alpha_us: AtomicU64::new(1000),
            beta_us: AtomicU64::new(0),
            extensions: vec!["binary_tensor_data"],
            poison: None,
            breaks: None,
            stalls: None,
            bad_gateway: None,
            row_bytes: 0,
            one_row_only: false,
            v1: false,
            v1_alone: false,
            grpc_only: false,
            one_answer: false,
            no_metadata: false,
            too_is_gone: AtomicBool::new(false),
            config: (404, String::new()),
            shape: [-1, 1],
            wide: 0,
            token: None,
            stateful: false,
        }
    }
}

//! The Open Inference Protocol (V2) in its three forms: what a batcher must know of it, and nothing else.
//!
//! Requests arrive as V2 JSON, V2 binary (a JSON header and raw tensors) or gRPC `ModelInfer`. [`parse_json`],
//! [`parse_binary`] and [`parse_grpc`] make the same [`InferRequest`] of all three; two requests whose [`MergeKey`]s
//! are equal may share a batch, whatever their forms. [`merge`] makes one upstream body of many requests,
//! [`parse_response`] reads the upstream's answer, [`split`] gives each client its own rows back in its own form.
//!
//! Tensors are never copied unless their form changes: they stay slices ([`bytes::Bytes`]) of the received bodies, and bodies
//! to be sent are lists of chunks for a vectored write. Numbers in JSON stay text: int64 beyond 2^53 and long digits
//! survive, because nothing parses them unless a batch mixes forms.
//!
//! The crate is pure: bytes in, bytes out; no I/O, no clock, no tokio.
//!
//! | module | what is there |
//! |---|---|
//! | `target` | model and version, and their place in a URL path |
//! | `datatype`, `tensor`, `parameters` | the vocabulary: datatypes, tensors as JSON text or raw bytes, parameters |
//! | `limits`, `error` | bounds on what is accepted; every error with what, where and whether to forward anyway |
//! | `json`, `binary`, [`grpc`] | the three forms on the wire, each way |
//! | `request`, `alone`, `key` | a parsed request; why it must not be merged; with what it may be |
//! | `merge`, `response`, `split` | many requests → one body → one answer → many answers |
//! | `transcode` | JSON text ↔ little-endian bytes, where a batch mixes forms |
//! | `error_answer` | an error in the form in which its client asked |

mod alone;
mod binary;
mod chunks;
mod datatype;
mod error;
mod error_answer;
pub mod grpc;
mod json;
mod key;
mod limits;
mod merge;
mod parameters;
mod request;
mod response;
mod split;
mod target;
mod tensor;
mod transcode;

pub use alone::Alone;
pub use binary::parse_binary;
pub use datatype::Datatype;
pub use error::{AnswerError, MergeError, ParseError, ParseErrorKind, ResponseError, SplitError};
pub use error_answer::{ErrorAnswer, error_answer, json_error};
pub use grpc::parse_grpc;
pub use json::parse_json;
pub use key::MergeKey;
pub use limits::Limits;
pub use merge::{Merged, merge};
pub use parameters::{Parameter, Parameters};
pub use request::{InferRequest, RequestedOutput};
pub use response::{InferResponse, parse_response};
pub use split::{Answer, split};
pub use target::Target;
pub use tensor::{JsonLayout, Tensor, TensorData};

/// Name of the HTTP header that gives the length in bytes of the JSON part of a V2 binary body.
pub const HEADER_LENGTH: &str = "inference-header-content-length";

/// The form in which a client asked, and in which it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// V2 REST, JSON alone.
    Json,
    /// V2 REST with the binary tensor extension (`Inference-Header-Content-Length`).
    Binary,
    /// gRPC `ModelInfer`.
    Grpc,
}

impl Form {
    /// The word for metric labels and journals: `json`, `binary` or `grpc`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Json => "json",
            Self::Binary => "binary",
            Self::Grpc => "grpc",
        }
    }
}

/// The form in which the model server is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UpstreamForm {
    /// V2 REST, JSON alone: for servers without the binary tensor extension.
    Json,
    /// V2 REST with the binary tensor extension. A batch of JSON clients alone is still sent as JSON text.
    Binary,
    /// gRPC `ModelInfer` with `raw_input_contents`.
    Grpc,
}

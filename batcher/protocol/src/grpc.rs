//! gRPC: the messages of package `inference`, their framing, and status codes.
//!
//! Messages are compiled from `proto/inference.proto`; every `bytes` field is a [`bytes::Bytes`] slice of the
//! received message.

mod contents;
mod counts;
mod frame;
mod head;
pub(crate) mod parse;
mod status;

pub use counts::bytes_to_read;
pub use frame::{FrameError, PREFIX_BYTES, decode_unary, frame_prefix, next_message};
pub use head::MessageHead;
pub use messages::*;
pub use parse::{CountedRequest, parse_grpc};
pub use status::{Code, decode_message, encode_message};

/// Value of `Content-Type`.
pub const CONTENT_TYPE: &str = "application/grpc";

/// Generated messages.
#[allow(missing_docs)]
mod messages {
    #![allow(clippy::all, rustdoc::all)]
    include!(concat!(env!("OUT_DIR"), "/inference.rs"));
}

/// Paths of the service's methods, as they stand in `:path`.
pub mod path {
    /// `ServerLive`.
    pub const SERVER_LIVE: &str = "/inference.GRPCInferenceService/ServerLive";
    /// `ServerReady`.
    pub const SERVER_READY: &str = "/inference.GRPCInferenceService/ServerReady";
    /// `ModelReady`.
    pub const MODEL_READY: &str = "/inference.GRPCInferenceService/ModelReady";
    /// `ServerMetadata`.
    pub const SERVER_METADATA: &str = "/inference.GRPCInferenceService/ServerMetadata";
    /// `ModelMetadata`.
    pub const MODEL_METADATA: &str = "/inference.GRPCInferenceService/ModelMetadata";
    /// `ModelInfer`.
    pub const MODEL_INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
    /// `ModelConfig`, Triton's extension.
    pub const MODEL_CONFIG: &str = "/inference.GRPCInferenceService/ModelConfig";
    /// `RepositoryIndex`, of the model repository extension.
    pub const REPOSITORY_INDEX: &str = "/inference.GRPCInferenceService/RepositoryIndex";
}

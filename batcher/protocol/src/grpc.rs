//! gRPC: the messages of package `inference`, their framing, and status codes.
//!
//! Messages are compiled from `proto/inference.proto`; every `bytes` field is a [`bytes::Bytes`] slice of the
//! received message.

mod batch;
mod contents;
mod counts;
mod frame;
mod head;
mod parse;
mod response;
mod status;

use bytes::Bytes;

pub use counts::bytes_to_read;
pub use frame::{FrameError, PREFIX_BYTES, decode_unary, frame_prefix, next_message};
pub use head::MessageHead;
pub use messages::*;
pub use parse::{CountedRequest, parse_grpc};
pub use status::{Code, decode_message, encode_message};

use crate::split::OutputPart;
use crate::wire_protocol::{Api, Batch, BatchBody, Transport, Unread};
use crate::{
    Address, InferRequest, InferResponse, MergeError, ParseError, PartError, ResponseError, ResponsePart,
    WireFormat, WireProtocol,
};

/// gRPC `ModelInfer`.
#[derive(Debug)]
pub(crate) struct Grpc;

impl WireProtocol for Grpc {
    fn name(&self) -> &'static str {
        "grpc"
    }

    fn transport(&self) -> Transport {
        Transport::Grpc
    }

    fn api(&self) -> Api {
        Api::V2
    }

    fn carries_raw_tensors(&self) -> bool {
        true
    }

    fn text_format(&self) -> Option<WireFormat> {
        None
    }

    fn read_path(&self, _path: &str) -> Option<Address> {
        None
    }

    fn read_request(&self, unread: Unread<'_>) -> Result<InferRequest, ParseError> {
        parse_grpc(unread.body, unread.limits)
    }

    fn path(&self, _address: &Address) -> String {
        path::MODEL_INFER.to_owned()
    }

    fn write_batch(&self, batch: &Batch<'_>) -> Result<BatchBody, MergeError> {
        batch::write(batch)
    }

    fn read_response(
        &self,
        _header_length: Option<usize>,
        body: Bytes,
    ) -> Result<InferResponse, ResponseError> {
        parse::read_response(body).map_err(|error| ResponseError(error.to_string()))
    }

    fn write_response(
        &self,
        response: &InferResponse,
        request: &InferRequest,
        outputs: &[OutputPart<'_>],
    ) -> Result<ResponsePart, PartError> {
        response::write(response, request, outputs)
    }
}

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

//! Reads, merges and splits requests and responses of the Open Inference Protocol (V2) in its three wire formats, and of V1.
//!
//! Requests arrive as V2 JSON, V2 binary (a JSON header and raw tensors) or gRPC `ModelInfer`. [`parse_json`],
//! [`parse_binary`] and [`parse_grpc`] read all three into one type, [`InferRequest`]; two requests whose [`MergeKey`]s
//! are equal may share a batch, whatever their wire formats. [`merge`] makes one upstream body of many requests,
//! [`parse_response`] reads the model server's response, [`split`] gives each client its own rows back in its own
//! wire format.
//!
//! V1 `:predict` requests ([`parse_v1`]) name no datatypes: where the model's metadata does, they join V2 requests;
//! otherwise they share batches with each other, joined as text.
//!
//! Tensors are never copied unless their wire format changes: they stay slices ([`bytes::Bytes`]) of the received bodies,
//! and bodies to be sent are lists of chunks for a vectored write. Numbers in JSON stay text: int64 beyond 2^53
//! and long digits survive, because nothing parses them unless a batch mixes wire formats.
//!
//! The crate is pure: bytes in, bytes out; no I/O, no clock, no tokio.
//!
//! ```
//! use sluice_protocol::{Limits, Target, WireFormat, merge, parse_binary, parse_json, parse_response, split};
//!
//! let target = Target::from_path("/v2/models/double/infer").ok_or("not an inference")?;
//! let json = r#"{"id":"a","inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","data":[0.5,1]}]}"#;
//! let header = r#"{"inputs":[{"name":"x","shape":[1,2],"datatype":"FP32","parameters":{"binary_data_size":8}}]}"#;
//! let binary = [header.as_bytes(), &2f32.to_le_bytes(), &3f32.to_le_bytes()].concat();
//! let one = parse_json(&target, json.into(), &Limits::default())?;
//! let two = parse_binary(&target, header.len(), binary.into(), &Limits::default())?;
//! assert!(one.key == two.key, "they may share a batch");
//!
//! let batch = merge(&[&one, &two], WireFormat::Binary)?;
//! assert_eq!((batch.total_rows(), batch.body_bytes - batch.header_length.unwrap_or(0)), (2, 16));
//!
//! // The model server doubles, and answers in JSON.
//! let answer = r#"{"model_name":"double","outputs":[{"name":"y","shape":[2,2],"datatype":"FP32","data":[1.0,2.0,4.0,6.0]}]}"#;
//! let answer = parse_response(batch.format, None, answer.into())?;
//! let answers = split(&answer, &[&one, &two], &batch.rows)?;
//! let first = answers[0].as_ref().map_err(Clone::clone)?;
//! assert_eq!(
//!     first.chunks.concat(),
//!     br#"{"model_name":"double","id":"a","outputs":[{"name":"y","datatype":"FP32","shape":[1,2],"data":[1.0,2.0]}]}"#
//! );
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! | to change … | look in … |
//! |---|---|
//! | the table of wire formats, the trait that each implements | `wire_format`, `wire_protocol` |
//! | V2 REST: JSON and its binary tensor extension, requests and responses | `rest/` |
//! | gRPC: messages, framing, status codes | [`grpc`] (`grpc/`) |
//! | V1 REST | `v1/` |
//! | what is read of any request; why it must not be merged; which requests may share its batch | `request`, `alone`, `key` |
//! | which sequence a request is a step of | `sequence` |
//! | how requests become one batch, whatever its wire format | `merge/`, `batch_rows` |
//! | how a response is cut by rows, whatever its wire format | `response`, `split/` |
//! | model and version, and how a URL path names them | `target` |
//! | datatypes, tensors as JSON text or raw bytes, parameters, a model's metadata | `datatype`, `tensor`, `parameters`, `signature` |
//! | limits on requests; errors | `limits`, `error` |
//! | how JSON is read and written as text; JSON text ↔ little-endian bytes | `json/`, `transcode` |
//!
//! A new wire format is one folder that implements [`WireProtocol`], and its variant and line in the table.

mod alone;
mod batch_rows;
mod chunks;
mod datatype;
mod error;
pub mod grpc;
mod json;
mod key;
mod limits;
mod merge;
mod parameters;
mod request;
mod response;
mod rest;
mod sequence;
mod signature;
mod split;
mod target;
mod tensor;
mod transcode;
mod v1;
mod wire_format;
mod wire_protocol;

pub use alone::Alone;
pub use batch_rows::BatchRows;
pub use datatype::Datatype;
pub use error::{MergeError, ParseError, ParseErrorKind, PartError, ResponseError, SplitError, json_error};
pub use grpc::parse_grpc;
pub use key::MergeKey;
pub use limits::Limits;
pub use merge::{Merged, merge, merge_padded};
pub use parameters::{Parameter, Parameters};
pub use request::{InferRequest, RequestedOutput};
pub use response::{InferResponse, parse_response};
pub use rest::{parse_binary, parse_json, parse_raw};
pub use sequence::{SequenceId, SequenceStep};
pub use signature::{ModelSignature, TensorSignature};
pub use split::{ResponsePart, split, unchanged_response};
pub use target::{Address, Target, model_in_path};
pub use tensor::{JsonLayout, Tensor, TensorData};
pub use v1::{V1Request, parse_v1};
pub use wire_format::WireFormat;
pub use wire_protocol::{Api, Transport, Unread, WireProtocol};

/// Name of the HTTP header that gives the length in bytes of the JSON part of a V2 binary body.
pub const HEADER_LENGTH: &str = "inference-header-content-length";

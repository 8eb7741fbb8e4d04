//! The Open Inference Protocol (V2) in its three forms, and V1: what a batcher must know of them, and nothing else.
//!
//! Requests arrive as V2 JSON, V2 binary (a JSON header and raw tensors) or gRPC `ModelInfer`. [`parse_json`],
//! [`parse_binary`] and [`parse_grpc`] make the same [`InferRequest`] of all three; two requests whose [`MergeKey`]s
//! are equal may share a batch, whatever their forms. [`merge`] makes one upstream body of many requests,
//! [`parse_response`] reads the upstream's answer, [`split`] gives each client its own rows back in its own form.
//!
//! V1 `:predict` requests ([`parse_v1`]) name no datatypes: where the model's metadata does, they join V2 requests;
//! otherwise they share batches with each other, spliced as text.
//!
//! Tensors are never copied unless their form changes: they stay slices ([`bytes::Bytes`]) of the received bodies,
//! and bodies to be sent are lists of chunks for a vectored write. Numbers in JSON stay text: int64 beyond 2^53
//! and long digits survive, because nothing parses them unless a batch mixes forms.
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
//! | module | what is there |
//! |---|---|
//! | `target` | model and version, and their place in a URL path |
//! | `datatype`, `tensor`, `parameters` | the vocabulary: datatypes, tensors as JSON text or raw bytes, parameters |
//! | `limits`, `error` | bounds on what is accepted; every error with what, where and whether to forward anyway |
//! | `json`, `binary`, [`grpc`] | the three forms on the wire, each way |
//! | `signature`, `v1` | a model's metadata; V1 requests and answers |
//! | `request`, `alone`, `key` | a parsed request; why it must not be merged; with what it may be |
//! | `sequence` | which sequence a request is a step of |
//! | `merge`, `response`, `split` | many requests → one body → one answer → many answers |
//! | `unchanged` | a batch of one request, where nothing has to be written anew |
//! | `transcode` | JSON text ↔ little-endian bytes, where a batch mixes forms |
//! | `error_response` | an error in the form in which its client asked |

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

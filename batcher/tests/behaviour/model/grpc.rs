//! The model server's gRPC side.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use prost::Message;
use serde_json::Value;
use sluice_protocol::grpc::model_infer_response::InferOutputTensor;
use sluice_protocol::grpc::model_metadata_response::TensorMetadata;
use sluice_protocol::grpc::repository_index_response::ModelIndex;
use sluice_protocol::grpc::{
    self, Code, ModelConfig, ModelConfigResponse, ModelDynamicBatching, ModelInferRequest,
    ModelInferResponse, ModelInstanceGroup, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest,
    ModelReadyResponse, ModelTransactionPolicy, RepositoryIndexResponse, ServerLiveResponse,
    ServerMetadataResponse, ServerReadyResponse, encode_message, frame_prefix,
};

use super::{Body, Call, HungUp, Shared, stateful};

impl Shared {
    pub(super) async fn answer_grpc(
        &self,
        epoch: usize,
        method: &str,
        request: Request<Incoming>,
    ) -> Response<Body> {
        let (parts, body) = request.into_parts();
        if let Some(refusal) = core_refusal(&parts) {
            return status(Code::Unknown, refusal);
        }
        let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
        let Ok(message) = grpc::decode_unary(body, 1 << 26) else {
            return status(Code::Internal, "not a message, says the model server");
        };
        let mut response = match method {
            "ServerLive" => self.reply_grpc(&ServerLiveResponse { live: true }),
            "ServerReady" => self.reply_grpc(&ServerReadyResponse { ready: true }),
            "ServerMetadata" => {
                self.reply_grpc(&ServerMetadataResponse { name: "stub".into(), ..Default::default() })
            }
            "ModelMetadata" => self.metadata(message),
            "ModelConfig" => self.config(),
            "ModelReady" => self.ready(message),
            "RepositoryIndex" => {
                let model = ModelIndex { name: self.name.clone() };
                self.reply_grpc(&RepositoryIndexResponse { models: vec![model] })
            }
            // A stream of one message.
            "ModelInfer" | "ModelStreamInfer" => self.infer_grpc(epoch, message).await,
            _ => status(Code::Unimplemented, "no such method, says the model server"),
        };
        // What a client says of itself comes back: metadata travels both ways.
        if let Some(client) = parts.headers.get("x-client") {
            response.headers_mut().insert("x-client", client.clone());
        }
        response
    }

    fn ready(&self, message: Bytes) -> Response<Body> {
        let asked = ModelReadyRequest::decode(message).unwrap();
        if asked.name != self.name || !["", "1"].contains(&&*asked.version) {
            return status(Code::NotFound, "no such version, says the model server");
        }
        self.reply_grpc(&ModelReadyResponse { ready: true })
    }

    fn metadata(&self, message: Bytes) -> Response<Body> {
        let asked = ModelMetadataRequest::decode(message).unwrap();
        if asked.name != self.name {
            return status(Code::NotFound, "no such model, says the model server");
        }
        let tensor = |name: &str| TensorMetadata {
            name: name.into(),
            datatype: "INT64".into(),
            shape: self.behaviour.shape.to_vec(),
        };
        self.reply_grpc(&ModelMetadataResponse {
            name: self.name.clone(),
            versions: vec!["1".into()],
            platform: "stub".into(),
            inputs: vec![tensor("id")],
            outputs: vec![tensor("id"), tensor("twice")],
        })
    }

    fn config(&self) -> Response<Body> {
        let (200, config) = &self.behaviour.config else {
            return status(Code::Unimplemented, "no such method, says the model server");
        };
        let config: Value = serde_json::from_str(config).unwrap();
        let number = |value: &Value| value.as_i64().unwrap_or_default() as i32;
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let groups = list(&config["instance_group"]);
        let preferred = list(&config["dynamic_batching"]["preferred_batch_size"]);
        self.reply_grpc(&ModelConfigResponse {
            config: Some(ModelConfig {
                max_batch_size: number(&config["max_batch_size"]),
                instance_group: groups
                    .iter()
                    .map(|group| ModelInstanceGroup { count: number(&group["count"]), ..Default::default() })
                    .collect(),
                dynamic_batching: Some(ModelDynamicBatching {
                    preferred_batch_size: preferred.iter().map(number).collect(),
                }),
                model_transaction_policy: Some(ModelTransactionPolicy {
                    decoupled: config["model_transaction_policy"]["decoupled"] == true,
                }),
                ..Default::default()
            }),
        })
    }

    async fn infer_grpc(&self, epoch: usize, message: Bytes) -> Response<Body> {
        let request = ModelInferRequest::decode(message).unwrap();
        let Some(raw) = request.raw_input_contents.first() else {
            return status(Code::InvalidArgument, "no raw contents, says the model server");
        };
        let ids: Vec<i64> =
            raw.chunks_exact(8).map(|id| i64::from_le_bytes(id.try_into().unwrap())).collect();
        let breaks = self.behaviour.breaks.is_some_and(|id| ids.contains(&id));
        let Some(answered) = self
            .run(Call {
                epoch,
                ids,
                form: "grpc",
                too: false,
                traceparent: None,
                authorization: None,
                headers: Default::default(),
            })
            .await
        else {
            return status(Code::FailedPrecondition, "poisoned, says the model server");
        };
        if breaks {
            let mut response = status(Code::Internal, "");
            response.extensions_mut().insert(HungUp);
            return response;
        }
        let step = self.step(epoch, stateful::Asked::of_grpc(&request.parameters));
        let width = request.inputs[0].shape.last().copied().unwrap_or(1);
        let output = |name: &str| InferOutputTensor {
            name: name.into(),
            datatype: "INT64".into(),
            shape: vec![answered.len() as i64 / width, width],
            ..Default::default()
        };
        let raw = |factor: i64| -> Bytes {
            answered.iter().flat_map(|id| (id * factor).to_le_bytes()).collect::<Vec<u8>>().into()
        };
        self.reply_grpc(&ModelInferResponse {
            model_name: self.name.clone(),
            model_version: "1".into(),
            id: request.id,
            outputs: vec![output("id"), output("twice")],
            raw_output_contents: vec![
                raw(1),
                step.map_or_else(|| raw(2), |number| number.to_le_bytes().to_vec().into()),
            ],
            ..Default::default()
        })
    }

    fn reply_grpc(&self, message: &impl Message) -> Response<Body> {
        let encoded = message.encode_to_vec();
        let body = [&frame_prefix(encoded.len()).unwrap()[..], &encoded].concat();
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        let frames = [Ok(Frame::data(Bytes::from(body))), Ok(Frame::trailers(trailers))];
        let mut response = Response::new(StreamBody::new(futures::stream::iter(frames)).boxed_unsync());
        response.headers_mut().insert("content-type", HeaderValue::from_static("application/grpc"));
        response
    }
}

/// What gRPC's C core (and with it Triton) finds wrong in the head of a call. It checks these before it looks at the
/// method or the message.
pub(super) fn core_refusal(parts: &http::request::Parts) -> Option<&'static str> {
    let one = |name: &str| {
        let mut values = parts.headers.get_all(name).iter();
        values.next().filter(|_| values.next().is_none()).map(HeaderValue::as_bytes)
    };
    if parts.version != http::Version::HTTP_2 {
        return Some("Not HTTP/2");
    }
    if parts.method != http::Method::POST {
        return Some("Bad :method header");
    }
    match one("te") {
        Some(b"trailers") => {}
        Some(_) => return Some("Bad :te header"),
        None => return Some("Missing :te header"),
    }
    if parts.uri.authority().is_none() {
        return Some("Missing :authority header");
    }
    let content_type = one("content-type").unwrap_or_default();
    let rest = content_type.strip_prefix(b"application/grpc");
    if !rest.is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';'))) {
        return Some("Bad content-type header");
    }
    // What HTTP/2 does not have.
    let connection_headers = ["connection", "keep-alive", "proxy-connection", "upgrade", "host", "expect"];
    connection_headers.iter().any(|name| parts.headers.contains_key(*name)).then_some("HTTP/1 header")
}

/// A status without a message, with details.
fn status(code: Code, text: &str) -> Response<Body> {
    let mut response = Response::new(http_body_util::Empty::new().boxed_unsync());
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    headers.insert("grpc-status", HeaderValue::from(u16::from(code.number())));
    headers.insert("grpc-message", encode_message(text).parse().unwrap());
    headers.insert("grpc-status-details-bin", HeaderValue::from_static("c29tZQ"));
    response
}

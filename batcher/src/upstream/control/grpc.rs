//! The questions of the control connection as gRPC calls. Answers are translated to the REST ones, so that the callers
//! need not distinguish.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode};
use prost::Message;
use serde_json::json;
use sluice_protocol::Merged;
use sluice_protocol::grpc::model_metadata_response::TensorMetadata;
use sluice_protocol::grpc::{
    ModelConfigRequest, ModelConfigResponse, ModelMetadataRequest, ModelMetadataResponse, ModelReadyRequest,
    ModelReadyResponse, RepositoryIndexRequest, RepositoryIndexResponse, ServerLiveRequest,
    ServerLiveResponse, ServerMetadataRequest, ServerMetadataResponse, ServerReadyRequest,
    ServerReadyResponse, frame_prefix, path,
};

use super::{ControlConnection, ControlError, QUESTION_TIMEOUT, WARMUP_HEADER, WARMUP_TIMEOUT};
use crate::upstream::connection::{Chunks, ExchangeError, UpstreamResponse};

impl ControlConnection {
    pub(super) async fn grpc_is_ready(&mut self) -> Result<bool, ControlError> {
        let answer = self.call(path::SERVER_READY, &ServerReadyRequest {}).await?;
        Ok(match answer.status {
            StatusCode::OK => decode::<ServerReadyResponse>(answer.body)?.ready,
            status => status == StatusCode::NOT_IMPLEMENTED,
        })
    }

    pub(super) async fn grpc_is_live(&mut self) -> Result<StatusCode, ControlError> {
        let answer = self.call(path::SERVER_LIVE, &ServerLiveRequest {}).await?;
        Ok(match answer.status {
            StatusCode::OK if decode::<ServerLiveResponse>(answer.body)?.live => StatusCode::OK,
            // The server answers but does not support the question.
            StatusCode::NOT_IMPLEMENTED => StatusCode::OK,
            StatusCode::OK => StatusCode::SERVICE_UNAVAILABLE,
            other => other,
        })
    }

    pub(super) async fn grpc_server_metadata(&mut self) -> Result<Option<Bytes>, ControlError> {
        let answer = self.call(path::SERVER_METADATA, &ServerMetadataRequest {}).await?;
        document(
            answer,
            |server: ServerMetadataResponse| json!({ "name": server.name, "version": server.version, "extensions": server.extensions }),
        )
    }

    pub(super) async fn grpc_ask_for_metadata(
        &mut self,
        model: &str,
    ) -> Result<UpstreamResponse, ControlError> {
        let asked = ModelMetadataRequest { name: model.to_owned(), ..Default::default() };
        self.call(path::MODEL_METADATA, &asked).await
    }

    pub(super) async fn grpc_version_is_ready(
        &mut self,
        model: &str,
        version: &str,
    ) -> Result<(bool, UpstreamResponse), ControlError> {
        let asked = ModelReadyRequest { name: model.to_owned(), version: version.to_owned() };
        let answer = self.call(path::MODEL_READY, &asked).await?;
        let is_ready =
            answer.status == StatusCode::OK && decode::<ModelReadyResponse>(answer.body.clone())?.ready;
        Ok((is_ready, answer))
    }

    pub(super) async fn grpc_model_metadata(&mut self, model: &str) -> Result<Option<Bytes>, ControlError> {
        let answer = self.grpc_ask_for_metadata(model).await?;
        let tensor = |tensor: &TensorMetadata| json!({ "name": tensor.name, "datatype": tensor.datatype, "shape": tensor.shape });
        document(answer, |model: ModelMetadataResponse| {
            json!({ "name": model.name, "versions": model.versions, "platform": model.platform,
                "inputs": model.inputs.iter().map(tensor).collect::<Vec<_>>(),
                "outputs": model.outputs.iter().map(tensor).collect::<Vec<_>>() })
        })
    }

    pub(super) async fn grpc_repository_index(&mut self) -> Result<Option<Bytes>, ControlError> {
        let answer = self.call(path::REPOSITORY_INDEX, &RepositoryIndexRequest::default()).await?;
        document(answer, |index: RepositoryIndexResponse| {
            json!(index.models.iter().map(|model| json!({ "name": model.name })).collect::<Vec<_>>())
        })
    }

    pub(super) async fn grpc_model_config(&mut self, model: &str) -> Result<Option<Bytes>, ControlError> {
        let asked = ModelConfigRequest { name: model.to_owned(), ..Default::default() };
        let answer = self.call(path::MODEL_CONFIG, &asked).await?;
        document(answer, |answer: ModelConfigResponse| {
            let config = answer.config.unwrap_or_default();
            let mut written = json!({
                "max_batch_size": config.max_batch_size,
                "input": config.input.iter().map(|input| json!({ "name": input.name, "optional": input.optional,
                    "allow_ragged_batch": input.allow_ragged_batch })).collect::<Vec<_>>(),
                "instance_group": config.instance_group.iter().map(|group| json!({ "count": group.count,
                    "gpus": group.gpus, "passive": group.passive })).collect::<Vec<_>>(),
            });
            if let Some(batching) = config.dynamic_batching {
                written["dynamic_batching"] =
                    json!({ "preferred_batch_size": batching.preferred_batch_size });
            }
            if config.sequence_batching.is_some() {
                written["sequence_batching"] = json!({});
            }
            if let Some(policy) = config.model_transaction_policy {
                written["model_transaction_policy"] = json!({ "decoupled": policy.decoupled });
            }
            written
        })
    }

    pub(super) async fn grpc_infer(&mut self, body: Merged) -> Result<UpstreamResponse, ControlError> {
        let mut request = post(path::MODEL_INFER, Chunks::new(body.chunks))?;
        request.headers_mut().insert(WARMUP_HEADER, HeaderValue::from_static("1"));
        self.ask(request, WARMUP_TIMEOUT).await
    }

    async fn call(&mut self, path: &str, message: &impl Message) -> Result<UpstreamResponse, ControlError> {
        let encoded = message.encode_to_vec();
        let prefix =
            frame_prefix(encoded.len()).map_err(|error| ControlError::Unwritable(error.to_string()))?;
        let body = Chunks::new(vec![Bytes::copy_from_slice(&prefix), encoded.into()]);
        self.ask(post(path, body)?, QUESTION_TIMEOUT).await
    }
}

fn post(path: &str, body: Chunks) -> Result<Request<Chunks>, http::Error> {
    Request::builder().method(Method::POST).uri(path).body(body)
}

fn decode<M: Message + Default>(body: Bytes) -> Result<M, ControlError> {
    M::decode(body).map_err(|error| {
        ControlError::Broken(ExchangeError::Broken(format!("invalid gRPC message: {error}")))
    })
}

/// Translates an answer to a JSON document; `None` if its status is not OK.
fn document<M: Message + Default>(
    answer: UpstreamResponse,
    write: impl FnOnce(M) -> serde_json::Value,
) -> Result<Option<Bytes>, ControlError> {
    if answer.status != StatusCode::OK {
        return Ok(None);
    }
    Ok(Some(Bytes::from(write(decode(answer.body)?).to_string())))
}

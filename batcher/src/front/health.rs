//! Liveness and readiness: the batcher answers itself, so that no traffic is sent to a cold model.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use prost::Message;
use sluice_protocol::WireFormat;
use sluice_protocol::grpc::{
    Code, ModelReadyRequest, ModelReadyResponse, ServerLiveResponse, ServerReadyResponse, decode_unary,
};

use super::Front;

use super::bodies::receive::receive;
use super::body::FrontBody;
use super::models::{Known, denied};
use super::route::GrpcMethod;
use super::transport::rest::json;
use super::transport::{failed, grpc, respond};
use crate::confirm::{Denial, Patience};
use crate::drain::Mode;
use crate::failure::Failure;
use crate::queue::Reply;
use crate::upstream::connection::UpstreamResponse;

/// Maximum bytes of a `ModelReadyRequest`.
const SMALL_BYTES: usize = 64 << 10;

impl Front {
    /// Returns whether a model server is ready, its barrier is open for all models that the settings name, and the batcher
    /// is not draining.
    pub fn is_ready(&self) -> bool {
        let servable = |model: &String| self.registry.get(model).is_some_and(|handle| handle.is_servable());
        self.drain.mode() == Mode::Serving
            && self.upstreams.any_ready()
            && self.settings.now().models.models.iter().all(servable)
    }

    /// Finds out whether one model, or one version of it, is ready. A model that is not warm yet is warmed because of this.
    ///
    /// # Errors
    /// Fails where the name is too long or the model server does not answer.
    async fn is_model_ready(&self, model: &str, version: Option<&str>) -> Result<ModelReadiness, Failure> {
        if !self.is_ready() {
            return Ok(ModelReadiness::NotReady);
        }
        // A readiness check asks for the present state: it does not wait for model servers that are not ready.
        let patience = Patience { awaits_all: false, ..self.models.patience() };
        let handle = match self.models.known(model, patience).await? {
            Known::Queue(handle) => handle,
            Known::TooMany => return Ok(ModelReadiness::NotReady),
            Known::Denied(denial) if !denial.is_certain => return Ok(ModelReadiness::NotReady),
            Known::Denied(denial) => return Ok(ModelReadiness::Denied(denial)),
        };
        handle.ask();
        if !handle.is_servable() {
            self.registry.look();
            return Ok(ModelReadiness::NotReady);
        }
        let Some(version) = version else { return Ok(ModelReadiness::Ready) };
        let said = self.models.inquiries.ask_for_version(model, version).await?;
        Ok(if said.is_ready { ModelReadiness::Ready } else { ModelReadiness::NoVersion(said.answer) })
    }

    pub(super) async fn model_ready(&self, model: &str, version: Option<&str>) -> Response<FrontBody> {
        match self.is_model_ready(model, version).await {
            Ok(ModelReadiness::Ready) => self.ready(true),
            Ok(ModelReadiness::NotReady) => self.ready(false),
            Ok(ModelReadiness::Denied(denial)) => denied(&denial, WireFormat::Json),
            // The model server answers with a success, but says that the version is not ready.
            Ok(ModelReadiness::NoVersion(answer)) if answer.status.is_success() => self.ready(false),
            Ok(ModelReadiness::NoVersion(own)) => respond(WireFormat::Json, Reply::Forwarded(own)).0,
            Err(failure) => failed(WireFormat::Json, &failure),
        }
    }

    pub(super) fn live(&self) -> Response<FrontBody> {
        json(StatusCode::OK, Bytes::from_static(b"{\"live\":true}"))
    }

    pub(super) fn ready(&self, ready: bool) -> Response<FrontBody> {
        if ready {
            json(StatusCode::OK, Bytes::from_static(b"{\"ready\":true}"))
        } else {
            json(StatusCode::SERVICE_UNAVAILABLE, Bytes::from_static(b"{\"ready\":false}"))
        }
    }

    pub(super) async fn grpc_health(
        &self,
        method: GrpcMethod,
        request: Request<Incoming>,
    ) -> Response<FrontBody> {
        let patience = Duration::from_millis(self.settings.now().timeouts.body_timeout_ms);
        let (body, _share) =
            match receive(request.into_body(), SMALL_BYTES, patience, self.bodies.memory.empty(None)).await {
                Ok(received) => received,
                Err(error) => return grpc::status(Code::InvalidArgument, &error.to_string()),
            };
        match method {
            GrpcMethod::ServerReady => grpc::small(&ServerReadyResponse { ready: self.is_ready() }),
            GrpcMethod::ModelReady => {
                let asked = decode_unary(body, SMALL_BYTES)
                    .map_err(|error| (error.code(), error.to_string()))
                    .and_then(|message| {
                        ModelReadyRequest::decode(message)
                            .map_err(|error| (Code::InvalidArgument, error.to_string()))
                    });
                match asked {
                    Ok(asked) => self.grpc_model_ready(&asked).await,
                    Err((code, message)) => grpc::status(code, &message),
                }
            }
            GrpcMethod::ServerLive | GrpcMethod::Infer => grpc::small(&ServerLiveResponse { live: true }),
        }
    }

    async fn grpc_model_ready(&self, asked: &ModelReadyRequest) -> Response<FrontBody> {
        let version = Some(&*asked.version).filter(|version| !version.is_empty());
        match self.is_model_ready(&asked.name, version).await {
            Ok(ModelReadiness::NoVersion(own))
                if own.headers.contains_key("grpc-status") && !own.status.is_success() =>
            {
                respond(WireFormat::Grpc, Reply::Forwarded(own)).0
            }
            Ok(readiness) => {
                let ready = matches!(readiness, ModelReadiness::Ready);
                grpc::small(&ModelReadyResponse { ready })
            }
            Err(failure) => failed(WireFormat::Grpc, &failure),
        }
    }
}

/// Readiness of a model or of a version of it.
enum ModelReadiness {
    Ready,
    NotReady,
    /// The model does not exist.
    Denied(Arc<Denial>),
    /// The version is not ready or does not exist; with the model server's response.
    NoVersion(UpstreamResponse),
}

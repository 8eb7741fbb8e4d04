//! Liveness and readiness: the batcher's own answers, so that nobody is sent to a cold model.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use prost::Message;
use sluice_protocol::Form;
use sluice_protocol::grpc::{
    Code, ModelReadyRequest, ModelReadyResponse, ServerLiveResponse, ServerReadyResponse, decode_unary,
};

use super::Front;
use super::answer::{failed, grpc_small, grpc_status, json};
use super::body::FrontBody;
use super::receive::receive;
use super::route::GrpcMethod;
use crate::drain::Mode;
use crate::queue::Failure;
use crate::registry::NoQueue;

/// Most bytes of a `ModelReadyRequest`.
const SMALL_BYTES: usize = 64 << 10;

impl Front {
    /// A model server is ready, its barrier is open for all models that the settings name, and traffic is wanted.
    pub fn is_ready(&self) -> bool {
        let servable = |model: &String| self.registry.get(model).is_some_and(|handle| handle.is_servable());
        self.drain.mode() == Mode::Serving
            && self.upstreams.any_ready()
            && self.settings.now().models.iter().all(servable)
    }

    /// The same for one model. Asking about a model makes it known, so that it is warmed.
    ///
    /// # Errors
    /// [`NoQueue::NameTooLong`]. One for which there is no place is not ready.
    pub fn is_model_ready(&self, model: &str) -> Result<bool, NoQueue> {
        if !self.is_ready() {
            return Ok(false);
        }
        match self.registry.get_or_add(model) {
            Ok(handle) => Ok(handle.is_servable()),
            Err(NoQueue::TooMany) => Ok(false),
            Err(error @ NoQueue::NameTooLong(_)) => Err(error),
        }
    }

    pub(super) fn model_ready(&self, model: &str) -> Response<FrontBody> {
        match self.is_model_ready(model) {
            Ok(ready) => self.ready(ready),
            Err(error) => failed(Form::Json, &Failure::new(400, error.to_string())),
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
        let patience = Duration::from_millis(self.settings.now().body_timeout_ms);
        let (body, _share) =
            match receive(request.into_body(), SMALL_BYTES, patience, self.bytes.empty(None)).await {
                Ok(received) => received,
                Err(error) => return grpc_status(Code::InvalidArgument, &error.to_string()),
            };
        match method {
            GrpcMethod::ServerReady => grpc_small(&ServerReadyResponse { ready: self.is_ready() }),
            GrpcMethod::ModelReady => {
                let asked = decode_unary(body, SMALL_BYTES)
                    .map_err(|error| (error.code(), error.to_string()))
                    .and_then(|message| {
                        ModelReadyRequest::decode(message)
                            .map_err(|error| (Code::InvalidArgument, error.to_string()))
                    });
                match asked {
                    Ok(asked) => match self.is_model_ready(&asked.name) {
                        Ok(ready) => grpc_small(&ModelReadyResponse { ready }),
                        Err(error) => grpc_status(Code::InvalidArgument, &error.to_string()),
                    },
                    Err((code, message)) => grpc_status(code, &message),
                }
            }
            GrpcMethod::ServerLive | GrpcMethod::Infer => grpc_small(&ServerLiveResponse { live: true }),
        }
    }
}

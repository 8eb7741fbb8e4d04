//! gRPC on the front port: unary calls, with their status in trailers.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use sluice_protocol::grpc::{
    self, Code, ModelReadyResponse, ServerLiveResponse, ServerReadyResponse, encode_message, path,
};

use super::batch::BadInput;
use super::body::{BODY_LIMIT_BYTES, Body, read_body};
use super::grpc_format::{self, frame};
use super::metadata;
use super::service::{InferError, ModelService};

/// Answers one call.
pub(super) async fn answer(service: &ModelService, request: Request<Incoming>) -> Response<Body> {
    match call(service, request).await {
        Ok(message) => respond(message, Code::Ok, None),
        Err((code, message)) => respond(Bytes::new(), code, Some(&message)),
    }
}

async fn call(service: &ModelService, request: Request<Incoming>) -> Result<Bytes, (Code, String)> {
    let method = request.uri().path().to_owned();
    let body = read_body(request).await.map_err(refused)?;
    match method.as_str() {
        path::SERVER_LIVE => Ok(frame(&ServerLiveResponse { live: true })),
        path::SERVER_READY => Ok(frame(&ServerReadyResponse { ready: service.is_loaded() })),
        path::SERVER_METADATA => Ok(frame(&metadata::grpc_server())),
        path::MODEL_READY => {
            let asked: grpc::ModelReadyRequest = message(body)?;
            known(service, &asked.name)?;
            Ok(frame(&ModelReadyResponse { ready: service.is_loaded() }))
        }
        path::MODEL_METADATA => {
            let asked: grpc::ModelMetadataRequest = message(body)?;
            known(service, &asked.name)?;
            Ok(frame(&metadata::grpc_model(&service.model)))
        }
        path::MODEL_INFER => {
            let (model, call) =
                grpc_format::decode(body, BODY_LIMIT_BYTES, &service.limits).map_err(refused)?;
            service.check(&model, None).map_err(refused)?;
            Ok(service.execute(call).await.map_err(refused)?.body)
        }
        _ => Err((Code::Unimplemented, format!("{method} is not served here"))),
    }
}

fn message<M: prost::Message + Default>(body: Bytes) -> Result<M, (Code, String)> {
    let malformed = |error: String| refused(BadInput::Malformed(error));
    let message = grpc::decode_unary(body, BODY_LIMIT_BYTES).map_err(|error| malformed(error.to_string()))?;
    M::decode(message).map_err(|error| malformed(error.to_string()))
}

fn known(service: &ModelService, asked: &str) -> Result<(), (Code, String)> {
    if asked == service.model {
        return Ok(());
    }
    Err(refused(InferError::UnknownModel { asked: asked.to_owned(), name: service.model.clone() }))
}

fn refused(error: impl Into<InferError>) -> (Code, String) {
    let error = error.into();
    let code = match error {
        InferError::Loading(_) | InferError::Slot(_) => Code::Unavailable,
        InferError::UnknownModel { .. } => Code::NotFound,
        InferError::BadInput(_) => Code::InvalidArgument,
    };
    (code, error.to_string())
}

fn respond(message: Bytes, code: Code, text: Option<&str>) -> Response<Body> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", u16::from(code.number()).into());
    if let Some(text) = text
        && let Ok(text) = HeaderValue::from_str(&encode_message(text))
    {
        trailers.insert("grpc-message", text);
    }
    let body = Full::new(message).with_trailers(std::future::ready(Some(Ok(trailers))));
    let mut response = Response::new(body.boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    response
}

//! The questions of the control connection over HTTP/1.1.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use serde::Deserialize;
use sluice_protocol::{Address, HEADER_LENGTH, Merged, Target};

use super::{ControlConnection, ControlError, QUESTION_TIMEOUT, WARMUP_HEADER, WARMUP_TIMEOUT};
use crate::upstream::connection::{Chunks, UpstreamResponse};

/// Returns `/v2/models/{model}`, percent-encoded.
pub(super) fn model_path(model: &str) -> String {
    let mut path = Target { model: model.to_owned(), version: None }.infer_path();
    path.truncate(path.len() - "/infer".len());
    path
}

/// Returns `/v2/models/{model}/versions/{version}/ready`, percent-encoded.
pub(super) fn ready_path(model: &str, version: &str) -> String {
    let target = Target { model: model.to_owned(), version: Some(version.to_owned()) };
    let mut path = target.infer_path();
    path.truncate(path.len() - "infer".len());
    path.push_str("ready");
    path
}

/// Returns whether an answer to a readiness question says yes: it is a success, and its document does not say
/// otherwise.
pub(super) fn says_ready(answer: &UpstreamResponse) -> bool {
    #[derive(Deserialize)]
    struct Said {
        ready: Option<bool>,
    }
    let said = serde_json::from_slice::<Said>(&answer.body).ok().and_then(|said| said.ready);
    answer.status.is_success() && said != Some(false)
}

/// Returns `/v1/models/{model}`, percent-encoded.
pub(super) fn v1_path(model: &str) -> String {
    model_path(model).replacen("/v2/", "/v1/", 1)
}

impl ControlConnection {
    pub(super) async fn rest_is_ready(&mut self) -> Result<bool, ControlError> {
        let status = self.get("/v2/health/ready").await?.status;
        Ok(status.is_success() || status == StatusCode::NOT_FOUND)
    }

    pub(super) async fn rest_document(&mut self, path: &str) -> Result<Option<Bytes>, ControlError> {
        let answer = self.get(path).await?;
        Ok(answer.status.is_success().then_some(answer.body))
    }

    /// Sends a `POST` with an empty JSON object; returns the body of a success, else `None`.
    pub(super) async fn rest_posted(&mut self, path: &str) -> Result<Option<Bytes>, ControlError> {
        let request = Request::builder().method(Method::POST).uri(path);
        let request = request.header(header::CONTENT_TYPE, "application/json");
        let answer =
            self.ask(request.body(Chunks::from(Bytes::from_static(b"{}")))?, QUESTION_TIMEOUT).await?;
        Ok(answer.status.is_success().then_some(answer.body))
    }

    /// Sends an inference request without inputs; returns the answer.
    pub(super) async fn rest_infer_nothing(&mut self, model: &str) -> Result<UpstreamResponse, ControlError> {
        let request = Request::builder().method(Method::POST).uri(format!("{}/infer", model_path(model)));
        let request = request.header(header::CONTENT_TYPE, "application/json").header(WARMUP_HEADER, "1");
        let body = Chunks::from(Bytes::from_static(b"{\"inputs\":[]}"));
        self.ask(request.body(body)?, QUESTION_TIMEOUT).await
    }

    pub(super) async fn rest_infer(
        &mut self,
        model: &str,
        body: Merged,
    ) -> Result<UpstreamResponse, ControlError> {
        let address = Address::from(Target { model: model.to_owned(), version: None });
        let path = body.format.protocol().path(&address);
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::CONTENT_TYPE, body.content_type)
            .header(WARMUP_HEADER, "1");
        if let Some(length) = body.header_length {
            request = request.header(HEADER_LENGTH, HeaderValue::from(length));
        }
        self.ask(request.body(Chunks::new(body.chunks))?, WARMUP_TIMEOUT).await
    }

    pub(super) async fn get(&mut self, path: &str) -> Result<UpstreamResponse, ControlError> {
        let request = Request::builder().uri(path).body(Chunks::default())?;
        self.ask(request, QUESTION_TIMEOUT).await
    }
}

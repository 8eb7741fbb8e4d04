//! The questions of the control connection over HTTP/1.1.

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use serde::Deserialize;
use sluice_protocol::{HEADER_LENGTH, Merged, Target, UpstreamForm};

use super::{Control, ControlError, QUESTION_TIMEOUT, WARMUP_HEADER, WARMUP_TIMEOUT, says};
use crate::upstream::connection::{Answer, Chunks};

/// `/v2/models/{model}`, percent-encoded.
pub(super) fn model_path(model: &str) -> String {
    let mut path = Target { model: model.to_owned(), version: None }.infer_path();
    path.truncate(path.len() - "/infer".len());
    path
}

/// `/v1/models/{model}`, percent-encoded.
pub(super) fn v1_path(model: &str) -> String {
    model_path(model).replacen("/v2/", "/v1/", 1)
}

impl Control {
    pub(super) async fn rest_is_ready(&mut self) -> Result<bool, ControlError> {
        let status = self.get("/v2/health/ready").await?.status;
        Ok(status.is_success() || status == StatusCode::NOT_FOUND)
    }

    pub(super) async fn rest_document(&mut self, path: &str) -> Result<Option<Bytes>, ControlError> {
        let answer = self.get(path).await?;
        Ok(answer.status.is_success().then_some(answer.body))
    }

    pub(super) async fn rest_has_model(&mut self, model: &str) -> Result<Option<bool>, ControlError> {
        let mut said = Some(false);
        for path in [model_path(model), v1_path(model)] {
            match says(self.get(&path).await?.status) {
                Some(true) => return Ok(Some(true)),
                Some(false) => {}
                None => said = None,
            }
        }
        let is_listed = self.rest_lists(model).await?;
        Ok(if is_listed { Some(true) } else { said })
    }

    /// Whether `GET /v1/models` names a model, as servers of OpenAI's API do.
    async fn rest_lists(&mut self, model: &str) -> Result<bool, ControlError> {
        #[derive(Deserialize)]
        struct List {
            data: Vec<Listed>,
        }
        #[derive(Deserialize)]
        struct Listed {
            id: String,
        }
        let document = self.rest_document("/v1/models").await?;
        let list = document.and_then(|document| serde_json::from_slice::<List>(&document).ok());
        Ok(list.is_some_and(|list| list.data.iter().any(|listed| listed.id == model)))
    }

    pub(super) async fn rest_infer(&mut self, model: &str, body: Merged) -> Result<Answer, ControlError> {
        let path = match body.form {
            UpstreamForm::V1 => format!("{}:predict", v1_path(model)),
            _ => format!("{}/infer", model_path(model)),
        };
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

    pub(super) async fn get(&mut self, path: &str) -> Result<Answer, ControlError> {
        let request = Request::builder().uri(path).body(Chunks::default())?;
        self.ask(request, QUESTION_TIMEOUT).await
    }
}

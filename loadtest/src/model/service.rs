//! What the REST, gRPC and OpenAI handlers share: which model is served, whether it is loaded, where it runs.

use super::batch::{BadInput, Limits};
use super::call::{Call, EncodedResponse};
use super::generation::Generator;
use super::slot::{ExecutionSlot, ExecutionSlotError};

/// The served model and what its handlers need.
#[derive(Debug)]
pub(super) struct ModelService {
    /// Name of the model in paths and messages.
    pub(super) model: String,
    /// Slot that executes calls.
    pub(super) slot: ExecutionSlot,
    /// Generator for OpenAI completions.
    pub(super) generator: Generator,
    /// Limits of accepted calls.
    pub(super) limits: Limits,
    /// True once the (simulated) loading is done.
    pub(super) loaded: tokio::sync::watch::Receiver<bool>,
}

/// Reason why an inference failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum InferError {
    /// The model is still loading.
    #[error("model `{0}` is still loading; ask /v2/health/ready")]
    Loading(String),
    /// The path names another model.
    #[error("model `{asked}` is unknown; this server has `{name}`, version 1")]
    UnknownModel {
        /// The name (and version) in the request.
        asked: String,
        /// The name of this server's model.
        name: String,
    },
    /// The request is wrong.
    #[error(transparent)]
    BadInput(#[from] BadInput),
    /// The slot did not accept the call.
    #[error(transparent)]
    Slot(#[from] ExecutionSlotError),
}

impl ModelService {
    /// Returns whether the model is loaded, so that calls are executed.
    pub(super) fn is_loaded(&self) -> bool {
        *self.loaded.borrow()
    }

    /// Rejects calls while the model is loading, and calls for other models.
    pub(super) fn check(&self, model: &str, version: Option<&str>) -> Result<(), InferError> {
        if model != self.model || !matches!(version, None | Some("" | "1")) {
            let asked = version.map_or(model.to_owned(), |version| format!("{model}, version {version}"));
            return Err(InferError::UnknownModel { asked, name: self.model.clone() });
        }
        if !self.is_loaded() {
            return Err(InferError::Loading(self.model.clone()));
        }
        Ok(())
    }

    /// Executes a call and returns its response.
    pub(super) async fn execute(&self, call: Call) -> Result<EncodedResponse, InferError> {
        let answer = self.slot.execute(call)?;
        Ok(answer.await.map_err(|_| ExecutionSlotError::Stopping)?)
    }
}

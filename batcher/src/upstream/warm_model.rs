//! Warms one model of one upstream by real calls, as [`WarmupPlan`] decides.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use sluice_protocol::{InferRequest, Merged, WireFormat};
use tokio::time::Instant;

use super::control::models::no_such_model;
use super::control::{ControlConnection, ControlError};
use super::discovery::{ModelMetadata, Profile, Spoken, parse_metadata};
use super::model_config::{ModelConfig, parse_config};
use super::signature::signature_of;
use super::warm_body::{Source, has_shape_of_zeros};
use super::warmup::WarmupPlan;
use crate::settings::{Batching, Settings, Warmup};

/// Number of server errors after which a warm-up fails.
const MAX_SERVER_ERRORS: u32 = 20;
/// Pause after a server error.
const PAUSE: Duration = Duration::from_millis(100);

/// A model that is ready to serve requests.
#[derive(Debug, Clone)]
pub struct WarmModel {
    /// How requests for the model are sent to the server.
    pub profile: Arc<Profile>,
    /// Rows and seconds of warm batches.
    pub times: Vec<(u32, f64)>,
    /// The model's documents, to notice when they change.
    pub documents: Documents,
}

/// A server's answers to the questions about one model.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Documents {
    /// V2 metadata; `None` if the server gave none.
    pub metadata: Option<Bytes>,
    /// Configuration, which only Triton has.
    pub config: Option<Bytes>,
    /// V1 status; asked for only if there is no metadata.
    pub v1: Option<Bytes>,
    /// Whether OpenAI's list of models contains it; asked for only if there is neither metadata nor V1 status.
    pub is_listed: bool,
}

impl Documents {
    /// Asks all questions.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn read(control: &mut ControlConnection, model: &str) -> Result<Self, ControlError> {
        let metadata = control.model_metadata(model).await?;
        let (config, v1) = match &metadata {
            Some(_) => (control.model_config(model).await?, None),
            None => (None, control.v1_model(model).await?),
        };
        let asks_list = metadata.is_none() && v1.is_none();
        let is_listed = asks_list && control.lists(model).await? == Some(true);
        Ok(Self { metadata, config, v1, is_listed })
    }

    /// Asks again the questions that had an answer, and always for metadata; returns whether all answers are the same.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn are_as_before(
        &self,
        control: &mut ControlConnection,
        model: &str,
    ) -> Result<bool, ControlError> {
        Ok(control.model_metadata(model).await? == self.metadata
            && (self.config.is_none() || control.model_config(model).await? == self.config)
            && (self.v1.is_none() || control.v1_model(model).await? == self.v1)
            && (!self.is_listed || control.lists(model).await? == Some(true)))
    }

    /// Parses the configuration; one that is not valid counts as none.
    fn config(&self, model: &str) -> ModelConfig {
        let parsed = self.config.as_deref().map(parse_config);
        parsed
            .transpose()
            .unwrap_or_else(|problem| {
                tracing::warn!(
                    model,
                    problem,
                    "Failed to parse the model's configuration; only its metadata is used."
                );
                None
            })
            .unwrap_or_default()
    }
}

/// Why a model is not warm.
#[derive(Debug, thiserror::Error)]
pub enum WarmError {
    /// The connection is lost; the server has to be identified again.
    #[error(transparent)]
    Lost(ControlError),
    /// The server rejects the warm-up requests, or does not have the model yet.
    #[error("{0}")]
    NotYet(String),
}

impl From<ControlError> for WarmError {
    fn from(error: ControlError) -> Self {
        match error {
            // The connection has not even been used.
            ControlError::Invalid(_) | ControlError::Unwritable(_) => Self::NotYet(error.to_string()),
            error => Self::Lost(error),
        }
    }
}

/// Reads a model's metadata and runs each batch size until its time is stable.
///
/// # Errors
/// See [`WarmError`].
pub async fn warm_model(
    control: &mut ControlConnection,
    model: &str,
    spoken: Spoken,
    settings: &Settings,
    recorded: &[InferRequest],
) -> Result<WarmModel, WarmError> {
    let named = settings.models.models.iter().any(|name| name == model);
    let documents = Documents::read(control, model).await?;
    let unknown = Profile::unknown(spoken);
    let without_warmup =
        |profile| WarmModel { profile: Arc::new(profile), times: Vec::new(), documents: documents.clone() };
    let config = documents.config(model);
    let own = settings.batching.of_model(model);
    let (metadata, max_rows) = match (&documents.metadata, &documents.v1) {
        (Some(metadata), _) => {
            let metadata = parse_metadata(metadata).map_err(WarmError::NotYet)?;
            let max_rows = metadata.max_rows(&config, &own);
            (if max_rows > 1 { metadata.with_batch_dimension() } else { metadata }, max_rows)
        }
        (None, Some(v1)) => {
            v1_is_ready(v1).map_err(WarmError::NotYet)?;
            // Its inputs are unknown, but need not be known: the rows are the instances.
            let merges = own.batching != Batching::Off;
            (ModelMetadata::default(), if merges { own.max_batch_rows } else { 1 })
        }
        // An LLM server: it serves streams, which the batcher does not merge.
        (None, None) if documents.is_listed => return Ok(without_warmup(unknown)),
        (None, None) if named => {
            return Err(WarmError::NotYet(no_such_model(model, &control.models().await?)));
        }
        (None, None) => return Ok(without_warmup(Profile { absent: true, ..unknown })),
    };
    let only_v1 = documents.v1.is_some();
    let form = if only_v1 { WireFormat::V1 } else { spoken.form };
    let profile = Profile {
        form,
        has_v1: only_v1,
        has_v2: spoken.http && !only_v1,
        max_rows,
        slots_hint: config.instances,
        preferred_rows: config.preferred_rows,
        decoupled: config.decoupled,
        stateful: config.sequences,
        signature: documents.metadata.as_deref().and_then(signature_of).map(Arc::new),
        ..unknown
    };
    let sizes: Vec<u32> = match max_rows {
        1 => vec![1],
        _ => own.batch_rows().into_iter().filter(|&rows| rows <= max_rows).collect(),
    };
    if settings.warm_up.warmup == Warmup::Off || profile.decoupled {
        return Ok(without_warmup(profile));
    }
    let sources = sources(&metadata, settings, recorded);
    let Some((first, others)) = sources.split_first() else {
        tracing::warn!(
            model,
            "The model's metadata names no inputs, so there is no warm-up; give warmupBodies to have one."
        );
        return Ok(without_warmup(profile));
    };
    let plan = run(control, model, first, form, &sizes, settings).await?;
    if let Some(rows) = plan.refused_rows() {
        tracing::warn!(
            model,
            refused_rows = rows,
            largest_rows = plan.accepted_rows(),
            "The model server rejects larger batches."
        );
    }
    let max_rows = plan.accepted_rows();
    let sizes: Vec<u32> = sizes.into_iter().filter(|&rows| rows <= max_rows).collect();
    for source in others {
        match run(control, model, source, form, &sizes, settings).await {
            Ok(_) => {}
            Err(error @ WarmError::Lost(_)) => return Err(error),
            // Another version may reject requests that its predecessor accepted. Clients' requests of that shape then
            // go to a server that has not been warmed for them.
            Err(WarmError::NotYet(reason)) => {
                tracing::warn!(model, reason, "The model server rejects a recorded request for warm-up.");
            }
        }
    }
    let profile = Arc::new(Profile { max_rows, ..profile });
    Ok(WarmModel { profile, times: plan.times().collect(), documents })
}

/// Returns the sources of warm-up bodies: made bodies, and recorded requests of other shapes.
fn sources<'a>(
    metadata: &'a ModelMetadata,
    settings: &'a Settings,
    recorded: &'a [InferRequest],
) -> Vec<Source<'a>> {
    let folder = settings.warm_up.warmup_bodies.as_deref();
    let recorded = recorded.iter().filter(|request| !has_shape_of_zeros(metadata, request));
    let mut sources: Vec<Source<'a>> = recorded.map(Source::Recorded).collect();
    // If the inputs are unknown, made bodies must come from the folder; recorded requests do as well.
    if !metadata.inputs.is_empty() || (folder.is_some() && sources.is_empty()) {
        sources.insert(0, Source::Made { metadata, folder });
    }
    sources
}

/// Runs each size that the source can have until its time is stable.
async fn run(
    control: &mut ControlConnection,
    model: &str,
    source: &Source<'_>,
    form: WireFormat,
    sizes: &[u32],
    settings: &Settings,
) -> Result<WarmupPlan, WarmError> {
    let sizes = sizes.iter().copied().filter(|&rows| rows >= source.least_rows()).collect();
    let mut plan = WarmupPlan::new(sizes, settings.warm_up.warmup_max_calls);
    let mut server_errors = 0;
    let mut made: Option<(u32, Merged)> = None;
    while let Some(rows) = plan.next_rows() {
        let body = match &made {
            Some((made_rows, body)) if *made_rows == rows => body.clone(),
            _ => source.body(model, rows, form).map_err(WarmError::NotYet)?,
        };
        made = Some((rows, body.clone()));
        let started = Instant::now();
        let answer = control.infer(model, body).await?;
        let seconds = started.elapsed().as_secs_f64();
        if answer.status.is_success() {
            plan.took(seconds);
        } else if answer.status.is_client_error() {
            plan.refused();
            if plan.next_rows().is_none() && plan.accepted_rows() == 0 {
                let text = String::from_utf8_lossy(&answer.body).chars().take(200).collect::<String>();
                return Err(WarmError::NotYet(format!(
                    "the model server refuses a warm-up request of {rows} rows with {}: {text}; set warmupBodies or warmup: off",
                    answer.status
                )));
            }
        } else {
            server_errors += 1;
            if server_errors >= MAX_SERVER_ERRORS {
                return Err(WarmError::NotYet(format!(
                    "the model server answers warm-up requests with {}",
                    answer.status
                )));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }
    Ok(plan)
}

/// Checks whether a V1 server serves the model, by KServe's `ready` or the states of TensorFlow Serving's versions. An
/// answer in another format counts as ready.
fn v1_is_ready(status: &[u8]) -> Result<(), String> {
    #[derive(Deserialize)]
    struct Status {
        ready: Option<bool>,
        model_version_status: Option<Vec<Version>>,
    }
    #[derive(Deserialize)]
    struct Version {
        state: String,
    }
    let Ok(status) = serde_json::from_slice::<Status>(status) else { return Ok(()) };
    if status.ready == Some(false) {
        return Err("the model server says that the model is not ready".to_owned());
    }
    match status.model_version_status {
        Some(versions) if !versions.iter().any(|version| version.state == "AVAILABLE") => {
            Err("no version of the model is AVAILABLE yet".to_owned())
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::v1_is_ready;

    #[test]
    fn the_v1_status_of_kserve_and_of_tensorflow_serving_is_read() {
        for ready in [
            &br#"{"name":"m","ready":true}"#[..],
            br#"{"model_version_status":[{"version":"1","state":"END"},{"version":"2","state":"AVAILABLE"}]}"#,
            b"{}",
            b"up",
        ] {
            assert_eq!(v1_is_ready(ready), Ok(()));
        }
        for not_ready in
            [&br#"{"name":"m","ready":false}"#[..], br#"{"model_version_status":[{"state":"LOADING"}]}"#]
        {
            assert!(v1_is_ready(not_ready).is_err());
        }
    }
}

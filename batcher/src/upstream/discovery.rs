//! What a model server reports about itself: its extensions and its models' metadata.

use std::sync::Arc;

use serde::Deserialize;
use sluice_protocol::{ModelSignature, WireFormat};

use super::model_config::ModelConfig;
use crate::settings::{Batching, FormSetting, ModelSettings};

/// Extension in the answer to `GET /v2` that says that the server reads raw tensors.
const BINARY_EXTENSION: &str = "binary_tensor_data";

/// One input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TensorMetadata {
    /// Name of the tensor.
    pub name: String,
    /// Datatype, such as `FP32`.
    pub datatype: String,
    /// Dimensions; -1 for one that may vary.
    pub shape: Vec<i64>,
}

/// Metadata of a model, the answer to `GET /v2/models/{model}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct ModelMetadata {
    /// Inputs; empty if the server leaves them out.
    pub inputs: Vec<TensorMetadata>,
    /// Outputs.
    pub outputs: Vec<TensorMetadata>,
}

/// Protocols that a server speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spoken {
    /// Wire format of batches.
    pub form: WireFormat,
    /// Whether it speaks HTTP/1.1.
    pub http: bool,
    /// Whether it speaks gRPC.
    pub grpc: bool,
}

impl Default for Spoken {
    fn default() -> Self {
        Self { form: WireFormat::Json, http: true, grpc: false }
    }
}

/// How requests for one model are sent to one upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Wire format of batches.
    pub form: WireFormat,
    /// Whether it is known to have V1 paths (`/v1/models/{model}:predict`): asked only where it has no V2 metadata.
    pub has_v1: bool,
    /// Whether it has V2 paths (`/v2/models/{model}/infer`).
    pub has_v2: bool,
    /// Whether it is known to speak gRPC.
    pub has_grpc: bool,
    /// Maximum rows of a batch; with 1, requests are not merged.
    pub max_rows: u32,
    /// Number of batches that the server says it runs at a time; `None` if it does not say.
    pub slots_hint: Option<u32>,
    /// Batch sizes that the server says it prefers.
    pub preferred_rows: Vec<u32>,
    /// Whether a request may have any number of answers: such requests are streamed, not batched.
    pub decoupled: bool,
    /// Whether the model keeps state between the requests of a sequence: none of its requests may run twice.
    pub stateful: bool,
    /// Signature from the model's metadata; `None` if that does not describe the tensors.
    pub signature: Option<Arc<ModelSignature>>,
    /// Whether the server says that it has no such model. Requests then get its own error, if no other server has it.
    pub absent: bool,
}

impl Profile {
    /// Creates the profile of a model about which nothing is known: its requests are sent one by one.
    pub fn unknown(spoken: Spoken) -> Self {
        Self {
            form: spoken.form,
            has_v1: false,
            has_v2: spoken.http,
            has_grpc: spoken.grpc,
            max_rows: 1,
            slots_hint: None,
            preferred_rows: Vec::new(),
            decoupled: false,
            stateful: false,
            signature: None,
            absent: false,
        }
    }

    /// Returns the name of the wire format of batches: `json`, `binary`, `grpc` or `v1`.
    pub fn form_name(&self) -> &'static str {
        self.form.as_str()
    }
}

/// What is known of an upstream, for its operators.
#[derive(Debug, Clone, Default)]
pub struct Discovered {
    /// The models that it was warmed for, sorted by name.
    pub models: Vec<(Arc<str>, Arc<Profile>)>,
    /// Why it is not ready; `None` if no reason is known.
    pub trouble: Option<String>,
}

/// Parses the metadata of a model.
///
/// # Errors
/// Returns a message if it is not metadata in the protocol's format.
pub fn parse_metadata(body: &[u8]) -> Result<ModelMetadata, String> {
    serde_json::from_slice(body).map_err(|error| format!("the model's metadata is not valid: {error}"))
}

/// Chooses the wire format for a server with this answer to `GET /v2` (`None`: there was no such answer).
pub fn form_of(setting: FormSetting, server_metadata: Option<&[u8]>) -> WireFormat {
    #[derive(Deserialize)]
    struct Server {
        #[serde(default)]
        extensions: Vec<String>,
    }
    match setting {
        FormSetting::Json => WireFormat::Json,
        FormSetting::Binary => WireFormat::Binary,
        FormSetting::Grpc => WireFormat::Grpc,
        FormSetting::Auto => match server_metadata.map(serde_json::from_slice::<Server>) {
            Some(Ok(server)) if server.extensions.iter().any(|name| name == BINARY_EXTENSION) => {
                WireFormat::Binary
            }
            _ => WireFormat::Json,
        },
    }
}

impl ModelMetadata {
    /// Returns whether dimension 0 of every input is a batch dimension.
    pub fn is_batched(&self) -> bool {
        !self.inputs.is_empty() && self.inputs.iter().all(|input| input.shape.first() == Some(&-1))
    }

    /// Returns the maximum rows of a batch, before warm-up has tried them.
    pub fn max_rows(&self, config: &ModelConfig, settings: &ModelSettings<'_>) -> u32 {
        let most = match config.max_batch_rows {
            Some(rows) if rows > 0 => settings.max_batch_rows.min(rows),
            _ => settings.max_batch_rows,
        };
        let merges = match (settings.batching, config.max_batch_rows) {
            (Batching::On, _) => true,
            (Batching::Off, _) => false,
            _ if config.decoupled || config.sequences => false,
            (Batching::Auto, Some(rows)) => rows > 0,
            (Batching::Auto, None) => self.is_batched(),
        };
        if merges { most } else { 1 }
    }

    /// Makes dimension 0 of all inputs a batch dimension, whatever their shapes say.
    pub fn with_batch_dimension(mut self) -> Self {
        for input in &mut self.inputs {
            if let Some(first) = input.shape.first_mut() {
                *first = -1;
            }
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;
    use crate::with_settings;

    const METADATA: &[u8] = br#"{"name":"m","versions":["1"],"platform":"x","inputs":[
        {"name":"id","datatype":"INT64","shape":[-1,1]},{"name":"ok","datatype":"BOOL","shape":[-1,2,-1]}],"outputs":[]}"#;

    #[test]
    fn a_leading_minus_one_on_every_input_is_a_batch_dimension() {
        let metadata = parse_metadata(METADATA).unwrap();
        assert!(metadata.is_batched());
        assert!(!ModelMetadata::default().is_batched());
        let mut fixed = metadata;
        fixed.inputs[1].shape[0] = 8;
        assert!(!fixed.is_batched());
    }

    #[test]
    fn the_binary_extension_decides_the_form() {
        let auto = |metadata| form_of(FormSetting::Auto, metadata);
        assert_eq!(auto(Some(br#"{"name":"x","extensions":["binary_tensor_data"]}"#)), WireFormat::Binary);
        assert_eq!(auto(Some(br#"{"name":"x","extensions":[]}"#)), WireFormat::Json);
        assert_eq!(auto(Some(b"<html>")), WireFormat::Json);
        assert_eq!(auto(None), WireFormat::Json);
        assert_eq!(form_of(FormSetting::Binary, None), WireFormat::Binary);
    }

    #[test]
    fn the_servers_configuration_decides_over_the_shapes_and_the_settings_over_both() {
        let max_rows = |shape: i64, config: ModelConfig, batching| {
            let mut metadata = parse_metadata(METADATA).unwrap();
            metadata.inputs[0].shape[0] = shape;
            let settings = with_settings!(
                Settings::default(),
                batching.batching = batching,
                batching.max_batch_rows = 8
            );
            metadata.max_rows(&config, &settings.batching.of_model("m"))
        };
        let says = |rows| ModelConfig { max_batch_rows: Some(rows), ..ModelConfig::default() };
        assert_eq!(max_rows(-1, ModelConfig::default(), Batching::Auto), 8);
        assert_eq!(max_rows(-1, says(0), Batching::Auto), 1, "no batch dimension, whatever the shape");
        assert_eq!(max_rows(3, says(4), Batching::Auto), 4);
        assert_eq!(max_rows(-1, says(64), Batching::Auto), 8);
        assert_eq!(max_rows(-1, says(64), Batching::Off), 1);
        assert_eq!(max_rows(3, says(0), Batching::On), 8);
        assert_eq!(max_rows(3, says(2), Batching::On), 2);
        let decoupled = ModelConfig { decoupled: true, ..says(4) };
        assert_eq!(max_rows(-1, decoupled, Batching::Auto), 1);
        let sequences = ModelConfig { sequences: true, ..says(4) };
        assert_eq!(max_rows(-1, sequences, Batching::Auto), 1);
    }
}

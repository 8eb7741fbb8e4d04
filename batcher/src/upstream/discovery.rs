//! What a model server says about itself: its extensions and its models' metadata.

use serde::Deserialize;
use sluice_protocol::UpstreamForm;

use crate::settings::{Batching, FormSetting, ModelSettings};

/// The extension of `GET /v2` by which a server says that it reads raw tensors.
const BINARY_EXTENSION: &str = "binary_tensor_data";

/// One input or output of a model.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TensorMetadata {
    /// Its name.
    pub name: String,
    /// Its datatype, such as `FP32`.
    pub datatype: String,
    /// Its dimensions; -1 where they may vary.
    pub shape: Vec<i64>,
}

/// `GET /v2/models/{model}`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub struct ModelMetadata {
    /// Its inputs; some servers leave them out.
    pub inputs: Vec<TensorMetadata>,
    /// Its outputs.
    pub outputs: Vec<TensorMetadata>,
}

/// How requests for one model are sent to one upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// Form of batches.
    pub form: UpstreamForm,
    /// Most rows of a batch; 1: requests are not merged.
    pub max_rows: u32,
}

/// Reads the metadata of a model.
///
/// # Errors
/// When it is not the protocol's.
pub fn parse_metadata(body: &[u8]) -> Result<ModelMetadata, String> {
    serde_json::from_slice(body).map_err(|error| format!("the model's metadata is not valid: {error}"))
}

/// The form for a server with this answer to `GET /v2` (`None`: it has none).
pub fn form_of(setting: FormSetting, server_metadata: Option<&[u8]>) -> UpstreamForm {
    #[derive(Deserialize)]
    struct Server {
        #[serde(default)]
        extensions: Vec<String>,
    }
    match setting {
        FormSetting::Json => UpstreamForm::Json,
        FormSetting::Binary => UpstreamForm::Binary,
        FormSetting::Auto => match server_metadata.map(serde_json::from_slice::<Server>) {
            Some(Ok(server)) if server.extensions.iter().any(|name| name == BINARY_EXTENSION) => {
                UpstreamForm::Binary
            }
            _ => UpstreamForm::Json,
        },
    }
}

impl ModelMetadata {
    /// Whether dimension 0 of every input is a batch dimension.
    pub fn is_batched(&self) -> bool {
        !self.inputs.is_empty() && self.inputs.iter().all(|input| input.shape.first() == Some(&-1))
    }

    /// Most rows of a batch before warm-up has tried them.
    pub fn max_rows(&self, settings: &ModelSettings<'_>) -> u32 {
        let merges = match settings.batching {
            Batching::On => true,
            Batching::Off => false,
            Batching::Auto => self.is_batched(),
        };
        if merges { settings.max_batch_rows } else { 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        assert_eq!(auto(Some(br#"{"name":"x","extensions":["binary_tensor_data"]}"#)), UpstreamForm::Binary);
        assert_eq!(auto(Some(br#"{"name":"x","extensions":[]}"#)), UpstreamForm::Json);
        assert_eq!(auto(Some(b"<html>")), UpstreamForm::Json);
        assert_eq!(auto(None), UpstreamForm::Json);
        assert_eq!(form_of(FormSetting::Binary, None), UpstreamForm::Binary);
    }
}

//! Configuration that a claim or a DeviceClass gives for its devices: the kind `DeviceConfig`. Pure and strict: an
//! unknown field or value is an error that names the field, because a setting that is silently ignored is only found
//! out in production.
//!
//! ```yaml
//! apiVersion: gpu.sluice.dev/v1alpha1
//! kind: DeviceConfig
//! sharing:
//!   strategy: Exclusive
//! ```

use serde::Deserialize;
use serde_json::Value;

use crate::sharing::SharingStrategy;

/// Maximum characters of a value and of a message in an error, because errors end up in Kubernetes Events of pods.
const MAX_CHARS: usize = 100;

/// Configuration of a claim's devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct DeviceConfig {
    /// How the devices are shared.
    pub sharing: SharingStrategy,
}

/// Opaque parameters as they are spelled.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Parameters {
    #[serde(rename = "apiVersion")]
    _api_version: ApiVersion,
    #[serde(rename = "kind")]
    _kind: Kind,
    #[serde(default)]
    sharing: Sharing,
}

#[derive(Deserialize)]
enum ApiVersion {
    #[serde(rename = "gpu.sluice.dev/v1alpha1")]
    V1Alpha1,
}

#[derive(Deserialize)]
enum Kind {
    DeviceConfig,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sharing {
    strategy: SharingStrategy,
}

/// An invalid configuration: the field, its value, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub(crate) struct ConfigError {
    /// Path of the field, such as `sharing.strategy`.
    pub field: String,
    /// Value of the field, what is wrong with it and what is allowed.
    pub problem: String,
}

impl DeviceConfig {
    /// Reads opaque parameters.
    ///
    /// # Errors
    /// Names the first wrong field.
    pub(crate) fn parse(parameters: &Value) -> Result<Self, ConfigError> {
        // Serde would also read a list as the values of a struct in their order.
        for (field, value) in [("parameters", Some(parameters)), ("sharing", parameters.get("sharing"))] {
            if let Some(value) = value.filter(|value| !value.is_object()) {
                let problem = format!("is {}; an object is allowed", shown(value));
                return Err(ConfigError { field: field.to_owned(), problem });
            }
        }
        match serde_path_to_error::deserialize::<_, Parameters>(parameters) {
            Ok(Parameters { sharing: Sharing { strategy }, .. }) => Ok(Self { sharing: strategy }),
            Err(error) => Err(ConfigError::new(parameters, &error)),
        }
    }
}

impl ConfigError {
    fn new(parameters: &Value, error: &serde_path_to_error::Error<serde_json::Error>) -> Self {
        let field = match error.path().to_string().as_str() {
            "." => "parameters".to_owned(),
            path => path.to_owned(),
        };
        let value = field.split('.').try_fold(parameters, |value, name| value.get(name));
        let is = value.map_or_else(String::new, |value| format!("is {}; ", shown(value)));
        let remark = match field.as_str() {
            "sharing.strategy" => " (time-slicing and MPS are not supported yet)",
            _ => "",
        };
        let problem = format!("{is}{}{remark}", cut(error.inner().to_string()));
        Self { field: cut(field), problem }
    }
}

fn shown(value: &Value) -> String {
    cut(value.to_string())
}

fn cut(text: String) -> String {
    match text.char_indices().nth(MAX_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const API_VERSION: &str = "gpu.sluice.dev/v1alpha1";
    const KIND: &str = "DeviceConfig";

    fn refused(parameters: Value) -> String {
        DeviceConfig::parse(&parameters).unwrap_err().to_string()
    }

    fn with(field: &str, value: Value) -> Value {
        let mut config = json!({"apiVersion": API_VERSION, "kind": KIND});
        config[field] = value;
        config
    }

    #[test]
    fn what_is_supported_is_read() {
        assert_eq!(DeviceConfig::parse(&with("kind", json!(KIND))), Ok(DeviceConfig::default()));
        let exclusive = with("sharing", json!({"strategy": "Exclusive"}));
        assert_eq!(DeviceConfig::parse(&exclusive), Ok(DeviceConfig { sharing: SharingStrategy::Exclusive }));
    }

    #[test]
    fn what_is_not_is_refused_with_the_field_the_value_and_what_is_allowed() {
        for (parameters, expected) in [
            (json!([1]), "parameters is [1]; an object is allowed"),
            (json!({"kind": KIND}), "parameters missing field `apiVersion`"),
            (
                with("apiVersion", json!("resource.nvidia.com/v1beta1")),
                "apiVersion is \"resource.nvidia.com/v1beta1\"; unknown variant `resource.nvidia.com/v1beta1`, \
                 expected `gpu.sluice.dev/v1alpha1`",
            ),
            (
                with("kind", json!("GpuConfig")),
                "kind is \"GpuConfig\"; unknown variant `GpuConfig`, expected `DeviceConfig`",
            ),
            (
                with("sharng", json!({})),
                "sharng is {}; unknown field `sharng`, expected one of `apiVersion`, `kind`, `sharing`",
            ),
            (with("sharing", json!(null)), "sharing is null; an object is allowed"),
            (with("sharing", json!(["Exclusive"])), "sharing is [\"Exclusive\"]; an object is allowed"),
            (with("sharing", json!({})), "sharing is {}; missing field `strategy`"),
            (with("sharing", json!({"strategy": 1})), "sharing.strategy is 1; "),
            (
                with("sharing", json!({"mpsConfig": {}})),
                "sharing.mpsConfig is {}; unknown field `mpsConfig`, expected `strategy`",
            ),
        ] {
            let error = refused(parameters);
            assert!(error.contains(expected), "{error}");
        }
        let error = refused(with("sharing", json!({"strategy": "TimeSlicing"})));
        assert_eq!(
            error,
            "sharing.strategy is \"TimeSlicing\"; unknown variant `TimeSlicing`, expected `Exclusive` (time-slicing and MPS \
             are not supported yet)"
        );
    }

    #[test]
    fn long_values_are_cut_in_errors() {
        let error = refused(with("sharing", json!("ü".repeat(5000))));
        assert!(error.len() < 300, "{error}");
    }
}

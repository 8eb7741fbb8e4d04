//! What a claim or a DeviceClass may configure of its devices: the kind `DeviceConfig`. Pure and strict:
//! whatever is not understood is refused with the field's name, because a setting that is passed over
//! silently is found out in production.
//!
//! ```yaml
//! apiVersion: gpu.sluice.dev/v1alpha1
//! kind: DeviceConfig
//! sharing:
//!   strategy: Exclusive
//! ```

use serde_json::{Map, Value};

/// `apiVersion` of the kind.
pub const API_VERSION: &str = "gpu.sluice.dev/v1alpha1";

/// `kind`.
pub const KIND: &str = "DeviceConfig";

/// Values that are shown in errors are cut here: they end up in events of pods.
const SHOWN_CHARS: usize = 60;

/// How the containers of a claim share its devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Strategy {
    /// Nobody outside the claim uses them.
    #[default]
    Exclusive,
}

/// Configuration of a claim's devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DeviceConfig {
    /// `sharing.strategy`.
    pub sharing: Strategy,
}

/// A configuration that is not valid: which field, and what would be allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct ConfigError {
    /// Path of the field.
    pub field: String,
    /// What is wrong with it and what is allowed.
    pub problem: String,
}

impl DeviceConfig {
    /// Reads opaque parameters.
    ///
    /// # Errors
    /// The first field that is wrong.
    pub fn parse(parameters: &Value) -> Result<Self, ConfigError> {
        let fields = object(parameters, "parameters", "", &["apiVersion", "kind", "sharing"])?;
        one_of(fields.get("apiVersion"), "apiVersion", API_VERSION, "")?;
        one_of(fields.get("kind"), "kind", KIND, "")?;
        let Some(sharing) = fields.get("sharing") else { return Ok(Self::default()) };
        let fields = object(sharing, "sharing", "sharing.", &["strategy"])?;
        let later = " (time-slicing and MPS are not supported yet)";
        one_of(fields.get("strategy"), "sharing.strategy", "Exclusive", later)?;
        Ok(Self { sharing: Strategy::Exclusive })
    }
}

/// The value as an object that has no field but the known ones.
fn object<'a>(
    value: &'a Value,
    path: &str,
    prefix: &str,
    known: &[&str],
) -> Result<&'a Map<String, Value>, ConfigError> {
    let Value::Object(fields) = value else {
        let problem = format!("is {}; an object with {} is allowed", shown(value), known.join(", "));
        return Err(ConfigError { field: path.to_owned(), problem });
    };
    match fields.keys().find(|field| !known.contains(&field.as_str())) {
        None => Ok(fields),
        Some(unknown) => Err(ConfigError {
            field: format!("{prefix}{}", cut(unknown.clone())),
            problem: format!("is not known; known are {}", known.join(", ")),
        }),
    }
}

fn one_of(value: Option<&Value>, path: &str, allowed: &str, remark: &str) -> Result<(), ConfigError> {
    let found = match value {
        Some(Value::String(text)) if text == allowed => return Ok(()),
        Some(value) => format!("is {}", shown(value)),
        None => "is missing".to_owned(),
    };
    Err(ConfigError { field: path.to_owned(), problem: format!("{found}; allowed is \"{allowed}\"{remark}") })
}

fn shown(value: &Value) -> String {
    cut(value.to_string())
}

fn cut(text: String) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

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
        assert_eq!(DeviceConfig::parse(&exclusive), Ok(DeviceConfig { sharing: Strategy::Exclusive }));
    }

    #[test]
    fn what_is_not_is_refused_with_the_field_the_value_and_what_is_allowed() {
        for (parameters, expected) in [
            (json!([1]), "parameters is [1]; an object with apiVersion, kind, sharing is allowed"),
            (json!({"kind": KIND}), "apiVersion is missing; allowed is \"gpu.sluice.dev/v1alpha1\""),
            (
                with("apiVersion", json!("resource.nvidia.com/v1beta1")),
                "allowed is \"gpu.sluice.dev/v1alpha1\"",
            ),
            (with("kind", json!("GpuConfig")), "kind is \"GpuConfig\"; allowed is \"DeviceConfig\""),
            (with("sharng", json!({})), "sharng is not known; known are apiVersion, kind, sharing"),
            (with("sharing", json!(null)), "sharing is null; an object with strategy is allowed"),
            (with("sharing", json!({})), "sharing.strategy is missing; allowed is \"Exclusive\""),
            (with("sharing", json!({"strategy": 1})), "sharing.strategy is 1; allowed is \"Exclusive\""),
            (with("sharing", json!({"mpsConfig": {}})), "sharing.mpsConfig is not known; known are strategy"),
        ] {
            let error = refused(parameters);
            assert!(error.contains(expected), "{error}");
        }
        let error = refused(with("sharing", json!({"strategy": "TimeSlicing"})));
        assert_eq!(
            error,
            "sharing.strategy is \"TimeSlicing\"; allowed is \"Exclusive\" (time-slicing and MPS are not supported yet)"
        );
    }

    #[test]
    fn long_values_are_cut_in_errors() {
        let error = refused(with("sharing", json!("ü".repeat(5000))));
        assert!(error.len() < 300, "{error}");
    }
}

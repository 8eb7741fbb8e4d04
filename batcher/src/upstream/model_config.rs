//! Triton's model configuration (`GET /v2/models/{model}/config`, an extension of the protocol): the only place where a
//! model server says whether it has a batch dimension and how many batches it runs at a time.

use serde::Deserialize;

/// The parts of a configuration that concern a batcher.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ModelConfig {
    /// Maximum rows of a batch. With 0, the inputs have no batch dimension; `None` if the configuration does not say.
    pub max_batch_rows: Option<u32>,
    /// Batch sizes that the server's own batcher prefers.
    pub preferred_rows: Vec<u32>,
    /// Number of batches that it runs at a time; `None` if the configuration does not say.
    pub instances: Option<u32>,
    /// Whether a request may have any number of answers.
    pub decoupled: bool,
    /// Whether the model's requests belong to sequences.
    pub sequences: bool,
}

/// Parses a configuration.
///
/// # Errors
/// Returns a message that names the wrong field.
pub fn parse_config(document: &[u8]) -> Result<ModelConfig, String> {
    let config: Document = serde_json::from_slice(document)
        .map_err(|error| format!("the model's configuration is not valid: {error}"))?;
    let max_batch_rows = config
        .max_batch_size
        .map(|rows| u32::try_from(rows).map_err(|_| format!("max_batch_size is {rows}")))
        .transpose()?;
    let instances = config
        .instance_group
        .iter()
        .filter(|group| !group.passive)
        .map(Group::instances)
        .fold(0_u32, u32::saturating_add);
    Ok(ModelConfig {
        max_batch_rows,
        preferred_rows: config
            .dynamic_batching
            .map(|batching| batching.preferred_batch_size)
            .unwrap_or_default(),
        instances: (instances > 0).then_some(instances),
        decoupled: config.model_transaction_policy.is_some_and(|policy| policy.decoupled),
        sequences: config.sequence_batching.is_some(),
    })
}

#[derive(Deserialize)]
struct Document {
    max_batch_size: Option<i64>,
    #[serde(default)]
    instance_group: Vec<Group>,
    dynamic_batching: Option<DynamicBatching>,
    sequence_batching: Option<serde::de::IgnoredAny>,
    model_transaction_policy: Option<TransactionPolicy>,
}

#[derive(Deserialize)]
struct Group {
    #[serde(default)]
    count: u32,
    #[serde(default)]
    gpus: Vec<i64>,
    #[serde(default)]
    passive: bool,
}

impl Group {
    /// Returns the number of instances: `count` on each GPU that is listed, or on the CPU.
    fn instances(&self) -> u32 {
        let devices = u32::try_from(self.gpus.len().max(1)).unwrap_or(u32::MAX);
        self.count.saturating_mul(devices)
    }
}

#[derive(Deserialize)]
struct DynamicBatching {
    #[serde(default)]
    preferred_batch_size: Vec<u32>,
}

#[derive(Deserialize)]
struct TransactionPolicy {
    #[serde(default)]
    decoupled: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tritons_configuration_is_read() {
        let config = parse_config(
            br#"{"name":"m","platform":"","backend":"python","max_batch_size":16,
            "input":[{"name":"x","data_type":"TYPE_FP32","dims":[-1],"optional":false,"allow_ragged_batch":false}],
            "dynamic_batching":{"preferred_batch_size":[4,8],"max_queue_delay_microseconds":0},
            "instance_group":[{"name":"a","kind":"KIND_GPU","count":2,"gpus":[0,1],"passive":false},
                {"kind":"KIND_CPU","count":1,"gpus":[]},{"count":5,"passive":true}],
            "model_transaction_policy":{"decoupled":true}}"#,
        );
        let expected = ModelConfig {
            max_batch_rows: Some(16),
            preferred_rows: vec![4, 8],
            instances: Some(5),
            decoupled: true,
            sequences: false,
        };
        assert_eq!(config, Ok(expected));
        assert!(parse_config(br#"{"max_batch_size":1,"sequence_batching":{"state":[]}}"#).unwrap().sequences);
    }

    #[test]
    fn a_document_that_says_nothing_of_batches_is_a_configuration_all_the_same() {
        assert_eq!(parse_config(b"{}"), Ok(ModelConfig::default()));
    }

    #[test]
    fn garbage_is_named() {
        for garbage in [
            &b"<html>"[..],
            b"[]",
            b"",
            br#"{"max_batch_size":"eight"}"#,
            br#"{"max_batch_size":-1}"#,
            br#"{"max_batch_size":4294967296}"#,
            br#"{"instance_group":{"count":1}}"#,
            br#"{"instance_group":[{"count":-1}]}"#,
        ] {
            assert!(parse_config(garbage).is_err(), "{}", String::from_utf8_lossy(garbage));
        }
        let many = br#"{"instance_group":[{"count":4294967295,"gpus":[0,1]},{"count":9}]}"#;
        assert_eq!(parse_config(many).unwrap().instances, Some(u32::MAX));
    }
}

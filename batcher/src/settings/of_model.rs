//! Settings that may differ from model to model, and what holds for one of them.

use serde::{Deserialize, Serialize};
use sluice_batch_policy::BatchSizes;

use super::{Batching, BatchingSettings, Padding};

/// What is set for one model alone (`modelSettings`); what is left out is as for all.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ModelOverrides {
    /// As [`BatchingSettings::objective_ms`].
    pub objective_ms: Option<u64>,
    /// As [`BatchingSettings::max_batch_rows`].
    pub max_batch_rows: Option<u32>,
    /// As [`BatchingSettings::allowed_batch_rows`]; an empty list: all.
    pub allowed_batch_rows: Option<Vec<u32>>,
    /// As [`BatchingSettings::padding`].
    pub padding: Option<Padding>,
    /// As [`BatchingSettings::max_batch_bytes`].
    pub max_batch_bytes: Option<u64>,
    /// As [`BatchingSettings::max_batch_tokens`].
    pub max_batch_tokens: Option<u64>,
    /// As [`BatchingSettings::tokens_input`].
    pub tokens_input: Option<String>,
    /// As [`BatchingSettings::batching`].
    pub batching: Option<Batching>,
    /// Its part of the slot time that models share, relative to others'; 1 where nothing is said.
    pub slot_weight: Option<u32>,
}

/// What holds for one model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // As in `Settings`.
pub struct ModelSettings<'a> {
    pub objective_ms: u64,
    pub max_batch_rows: u32,
    pub allowed_batch_rows: &'a [u32],
    pub padding: Padding,
    pub max_batch_bytes: Option<u64>,
    pub max_batch_tokens: Option<u64>,
    pub tokens_input: Option<&'a str>,
    pub batching: Batching,
    pub slot_weight: u32,
}

impl BatchingSettings {
    /// Returns these settings with those of one model in their place.
    pub(super) fn for_model(&self, of_model: &ModelSettings<'_>) -> Self {
        Self {
            objective_ms: of_model.objective_ms,
            max_batch_rows: of_model.max_batch_rows,
            max_batch_bytes: of_model.max_batch_bytes,
            max_batch_tokens: of_model.max_batch_tokens,
            ..self.clone()
        }
    }

    /// What holds for a model without settings of its own.
    pub fn of_all(&self) -> ModelSettings<'_> {
        ModelSettings {
            objective_ms: self.objective_ms,
            max_batch_rows: self.max_batch_rows,
            allowed_batch_rows: &self.allowed_batch_rows,
            padding: self.padding,
            max_batch_bytes: self.max_batch_bytes,
            max_batch_tokens: self.max_batch_tokens,
            tokens_input: self.tokens_input.as_deref(),
            batching: self.batching,
            slot_weight: 1,
        }
    }

    /// What holds for a model: its own settings before those for all.
    pub fn of_model(&self, model: &str) -> ModelSettings<'_> {
        let all = self.of_all();
        // Most have none, and this is asked for each request.
        if self.model_settings.is_empty() {
            return all;
        }
        let Some(own) = self.model_settings.get(model) else { return all };
        ModelSettings {
            objective_ms: own.objective_ms.unwrap_or(all.objective_ms),
            max_batch_rows: own.max_batch_rows.unwrap_or(all.max_batch_rows),
            allowed_batch_rows: own.allowed_batch_rows.as_deref().unwrap_or(all.allowed_batch_rows),
            padding: own.padding.unwrap_or(all.padding),
            max_batch_bytes: own.max_batch_bytes.or(all.max_batch_bytes),
            max_batch_tokens: own.max_batch_tokens.or(all.max_batch_tokens),
            tokens_input: own.tokens_input.as_deref().or(all.tokens_input),
            batching: own.batching.unwrap_or(all.batching),
            slot_weight: own.slot_weight.unwrap_or(all.slot_weight),
        }
    }
}

impl ModelSettings<'_> {
    /// The sizes that a batch may have, ascending. With 1, unless batches are padded: a request of one row could not
    /// go otherwise.
    pub fn batch_rows(&self) -> Vec<u32> {
        if self.allowed_batch_rows.is_empty() {
            return (1..=self.max_batch_rows).collect();
        }
        let mut rows = self.allowed_batch_rows.to_vec();
        if self.padding == Padding::Off {
            rows.push(1);
        }
        rows.sort_unstable();
        rows.dedup();
        rows
    }

    /// The same, for the policy.
    pub fn sizes(&self) -> BatchSizes {
        match self.padding {
            _ if self.allowed_batch_rows.is_empty() => BatchSizes::up_to(self.max_batch_rows),
            Padding::Off => BatchSizes::allowed(self.max_batch_rows, &self.batch_rows()),
            Padding::Repeat => BatchSizes::padded(self.max_batch_rows, &self.batch_rows()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_models_own_settings_come_first_and_the_rest_is_as_for_all() {
        let own =
            ModelOverrides { objective_ms: Some(50), batching: Some(Batching::Off), ..Default::default() };
        let settings = BatchingSettings {
            max_batch_tokens: Some(4096),
            model_settings: [("bert".to_owned(), own)].into(),
            ..BatchingSettings::default()
        };
        let bert = settings.of_model("bert");
        assert_eq!((bert.objective_ms, bert.batching), (50, Batching::Off));
        assert_eq!((bert.max_batch_rows, bert.max_batch_tokens), (64, Some(4096)));
        assert_eq!(settings.of_model("other").objective_ms, 1000);
    }

    #[test]
    fn one_row_is_always_an_allowed_size_unless_batches_are_padded() {
        let settings = BatchingSettings { allowed_batch_rows: vec![8, 4], ..BatchingSettings::default() };
        assert_eq!(settings.of_model("m").batch_rows(), [1, 4, 8]);
        let padded = BatchingSettings { padding: Padding::Repeat, ..settings };
        assert_eq!(padded.of_model("m").batch_rows(), [4, 8]);
        let all = BatchingSettings { max_batch_rows: 3, ..BatchingSettings::default() };
        assert_eq!(all.of_model("m").batch_rows(), [1, 2, 3]);
    }
}

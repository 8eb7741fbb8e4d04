//! When and how requests are merged into batches.

use std::collections::BTreeMap;

use super::table::{Bounds, Group, Setting, settings_group};
use super::{Batching, Deferral, InvalidSetting, ModelOverrides, Padding, SlotSharing};

settings_group! {
    /// Batches
    pub struct BatchingSettings {
        /// Latency objective: deadline of requests without their own, and basis of the batch size.
        objective_ms: u64 = 1000, Setting::new("objectiveMs").bounds(Bounds::AtLeastOne);
        /// Whether requests are merged.
        ///
        /// `auto`, `on` or `off`. `auto` follows Triton's model configuration where there is one (`max_batch_size`: maximum rows,
        /// 0 is never; decoupled and sequence models never), else merges where the metadata of all inputs has -1 first.
        /// Servers of KServe's SDK have neither: set `on`.
        batching: Batching = Batching::Auto, Setting::new("batching").rewarms();
        /// Maximum rows of a batch.
        max_batch_rows: u32 = 64, Setting::new("maxBatchRows").bounds(Bounds::AtLeastOne).rewarms();
        /// Sizes that a batch may have, in rows.
        ///
        /// 1 is always allowed, unless batches are padded.
        allowed_batch_rows: Vec<u32> = Vec::new(),
            Setting::new("allowedBatchRows").value_name("ROWS,…").absent("all").rewarms();
        /// Whether a batch may be filled up to an allowed size.
        ///
        /// `repeat`: by repeating its last row, where the learned curve says that this costs less time per row than a smaller
        /// batch. Warm-up runs just the allowed sizes.
        padding: Padding = Padding::Off, Setting::new("padding").rewarms();
        /// Maximum bytes of the bodies of a batch.
        ///
        /// A larger request goes alone.
        max_batch_bytes: Option<u64> = None, Setting::new("maxBatchBytes").bounds(Bounds::AtLeastOne);
        /// Maximum tokens of a batch.
        ///
        /// A larger request goes alone.
        max_batch_tokens: Option<u64> = None, Setting::new("maxBatchTokens").bounds(Bounds::AtLeastOne);
        /// Input whose elements are tokens.
        tokens_input: Option<String> = None, Setting::new("tokensInput")
            .value_name("NAME")
            .absent("the input with the most elements per row, where these are integers");
        /// Settings of single models, by the model's name.
        ///
        /// Each may have its own `objectiveMs`, `maxBatchRows`, `allowedBatchRows`, `padding`, `maxBatchBytes`, `maxBatchTokens`,
        /// `tokensInput`, `batching`; and `slotWeight` (1): its part of the slot time that models share, relative to the others',
        /// where they cannot all have what they need.
        model_settings: BTreeMap<String, ModelOverrides> = BTreeMap::new(),
            Setting::new("modelSettings").file_only();
        /// Batches that one model server runs at a time; 0: found by measuring its throughput.
        ///
        /// 0: for each epoch, while requests wait all the time, one more slot is tried and kept if more rows per second get done.
        /// The search starts at Triton's instance count where the model server reports it.
        slots_per_upstream: usize = 1, Setting::new("slotsPerUpstream");
        /// Whether the models of a model server share its slots.
        ///
        /// `shared`: models take turns while each can wait for the others' batches and still be in time. A model that cannot wait,
        /// or has a full batch, goes by its fair share of slot time (start-time fair queueing). So a flood is kept to its share,
        /// and a model with few requests does not fill its own with tiny batches; others may use what one leaves.
        /// `perModel`: each model has `slotsPerUpstream` slots of its own.
        slot_sharing: SlotSharing = SlotSharing::Shared, Setting::new("slotSharing").rewarms();
        /// Whether requests may wait for a larger batch although a slot is free.
        ///
        /// `auto`: with several slots, and an objective that keeps batches smaller than they may be, requests wait until there
        /// are as many as arrive in one turn of the slots (λ·L(b)/S), for one turn at most, never past the latest start of the
        /// request that is due first. Batches then leave evenly spread and may be larger within the same objective. Nothing is
        /// deferred at low load, with one slot, or while requests of several merge keys wait.
        deferral: Deferral = Deferral::Off, Setting::new("deferral");
        /// Time that a response takes from here to its client.
        ///
        /// Deadlines here are earlier by this time (by a tenth of the objective at most), so that a response just in time here is
        /// in time there.
        transit_ms: u64 = 2, Setting::new("transitMs").file_only();
    }
}

impl BatchingSettings {
    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        self.check_of(None)?;
        self.model_settings.keys().try_for_each(|model| self.check_of(Some(model)))
    }

    /// Checks what holds for a model; `None`: for all models without settings of their own.
    fn check_of(&self, model: Option<&str>) -> Result<(), InvalidSetting> {
        let settings = model.map_or(self.of_all(), |model| self.of_model(model));
        let invalid = |field: &'static str, problem: String| match model {
            None => Err(InvalidSetting { field, problem }),
            Some(model) => Err(InvalidSetting {
                field: "modelSettings",
                problem: format!("{model}: {field}: {problem}"),
            }),
        };
        // The bounds of a model's own settings are those of the settings for all.
        self.for_model(&settings)
            .check_bounds()
            .or_else(|InvalidSetting { field, problem }| invalid(field, problem))?;
        if settings.slot_weight == 0 {
            return invalid("slotWeight", "must be at least 1".to_owned());
        }
        let most = settings.max_batch_rows;
        if let Some(rows) = settings.allowed_batch_rows.iter().find(|&&rows| rows == 0 || rows > most) {
            return invalid("allowedBatchRows", format!("{rows} is not between 1 and maxBatchRows ({most})"));
        }
        if settings.padding != Padding::Off && settings.allowed_batch_rows.is_empty() {
            return invalid("padding", "repeat needs allowedBatchRows, the sizes to fill up to".to_owned());
        }
        if settings.tokens_input == Some("") {
            return invalid("tokensInput", "must be the name of an input, or be left out".to_owned());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_the_field_and_the_model() {
        let error = |settings: BatchingSettings| settings.check().unwrap_err().to_string();
        let all = BatchingSettings { max_batch_tokens: Some(0), ..BatchingSettings::default() };
        assert_eq!(error(all), "maxBatchTokens: must be at least 1");
        let own = ModelOverrides { allowed_batch_rows: Some(vec![128]), ..ModelOverrides::default() };
        let one =
            BatchingSettings { model_settings: [("bert".into(), own)].into(), ..BatchingSettings::default() };
        assert_eq!(
            error(one),
            "modelSettings: bert: allowedBatchRows: 128 is not between 1 and maxBatchRows (64)"
        );
        let own = ModelOverrides { objective_ms: Some(0), ..ModelOverrides::default() };
        let one =
            BatchingSettings { model_settings: [("bert".into(), own)].into(), ..BatchingSettings::default() };
        assert_eq!(error(one), "modelSettings: bert: objectiveMs: must be at least 1");
        let padded = BatchingSettings { padding: Padding::Repeat, ..BatchingSettings::default() };
        assert_eq!(error(padded), "padding: repeat needs allowedBatchRows, the sizes to fill up to");
    }
}

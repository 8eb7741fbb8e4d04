//! What batches may hold, for all models and for each.

use super::InvalidSetting;
use crate::settings::{Padding, Settings};

impl Settings {
    pub(super) fn validate_batches(&self) -> Result<(), InvalidSetting> {
        self.validate_batches_of(None)?;
        self.model_settings.keys().try_for_each(|model| self.validate_batches_of(Some(model)))
    }

    /// What holds for a model; for all others without one.
    fn validate_batches_of(&self, model: Option<&str>) -> Result<(), InvalidSetting> {
        let settings = model.map_or(self.of_all(), |model| self.of_model(model));
        let invalid = |field: &'static str, problem: String| match model {
            None => Err(InvalidSetting { field, problem }),
            Some(model) => Err(InvalidSetting {
                field: "modelSettings",
                problem: format!("{model}: {field}: {problem}"),
            }),
        };
        let at_least_one = [
            ("objectiveMs", Some(settings.objective_ms)),
            ("maxBatchRows", Some(u64::from(settings.max_batch_rows))),
            ("maxBatchBytes", settings.max_batch_bytes),
            ("maxBatchTokens", settings.max_batch_tokens),
            ("slotWeight", Some(u64::from(settings.slot_weight))),
        ];
        for (field, value) in at_least_one {
            if value == Some(0) {
                return invalid(field, "must be at least 1".to_owned());
            }
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
    use crate::settings::{ModelOverrides, Padding, Settings};

    fn error(settings: Settings) -> String {
        let settings = Settings { upstream: Some("127.0.0.1:9000".into()), ..settings };
        settings.validate().unwrap_err().to_string()
    }

    #[test]
    fn errors_name_the_field_and_the_model() {
        let all = Settings { max_batch_tokens: Some(0), ..Settings::default() };
        assert_eq!(error(all), "maxBatchTokens: must be at least 1");
        let own = ModelOverrides { allowed_batch_rows: Some(vec![128]), ..ModelOverrides::default() };
        let one = Settings { model_settings: [("bert".into(), own)].into(), ..Settings::default() };
        assert_eq!(
            error(one),
            "modelSettings: bert: allowedBatchRows: 128 is not between 1 and maxBatchRows (64)"
        );
        let padded = Settings { padding: Padding::Repeat, ..Settings::default() };
        assert_eq!(error(padded), "padding: repeat needs allowedBatchRows, the sizes to fill up to");
    }
}

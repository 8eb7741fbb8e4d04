//! Which models the batcher serves.

use super::InvalidSetting;
use super::table::{Bounds, Setting, settings_group};

settings_group! {
    /// Models
    pub struct ModelListSettings {
        /// Models that must be warm before the batcher is ready.
        ///
        /// Also after a restart of the model server. Others are warmed when they are asked for:
        /// [Models that nobody named](#models-that-nobody-named).
        models: Vec<String> = Vec::new(), Setting::new("models").value_name("NAME,…");
        /// Maximum number of models with a queue and metric series of their own.
        ///
        /// Further models of a model server pass through unmerged until one is forgotten; their streams count under
        /// `model="other"`. Models that the settings name always have a queue. A name of more than 256 bytes is refused
        /// with 400 / `INVALID_ARGUMENT`.
        max_models: usize = 64, Setting::new("maxModels").file_only().at_start().bounds(Bounds::AtLeastOne);
    }
}

impl ModelListSettings {
    pub(super) fn check(&self) -> Result<(), InvalidSetting> {
        if self.models.len() > self.max_models {
            let problem = "names more models than maxModels allows".to_owned();
            return Err(InvalidSetting { field: "models", problem });
        }
        Ok(())
    }
}

//! Settings of the batcher: groups of settings, what makes them valid, and how they change at run time.
//!
//! Each group stands in a file of its own, and each setting in one place of it: see `table`. In the settings file, in
//! flags and in the environment there are no groups.
//!
//! | module | what is there |
//! |---|---|
//! | `process`, `servers`, `models`, `batching`, `order`, `sequences`, `holding`, `limits`, `timeouts`, `access`, `streams`, `warm_up`, `drain`, `observe` | the groups |
//! | `table` | what one entry says about a setting |
//! | `flags`, `flat` | flags, environment and settings file, made from the table |
//! | `choices`, `members`, `of_model`, `own_headers` | types of settings |
//! | `live`, `reload` | the settings as they are now; a changed file is taken over without a restart |

mod access;
mod batching;
mod choices;
#[cfg(test)]
mod documented;
mod drain;
mod flags;
mod flat;
mod holding;
mod limits;
mod live;
mod members;
mod models;
mod observe;
mod of_model;
mod order;
mod own_headers;
mod process;
mod reload;
mod sequences;
mod servers;
mod streams;
mod table;
mod timeouts;
mod warm_up;

use std::hash::{DefaultHasher, Hash, Hasher};

use serde::de::MapAccess;
use serde::ser::SerializeMap;
use serde_json::{Map, Value};

pub use access::AccessSettings;
pub use batching::BatchingSettings;
pub use choices::{
    AccessLogSetting, Batching, ControlPaths, Deferral, FormSetting, Padding, Role, SlotSharing, Streaming,
    Warmup, WhileCold,
};
pub use drain::DrainSettings;
pub use flags::SettingFlags;
pub use holding::HoldingSettings;
pub use limits::LimitSettings;
pub use live::Live;
pub use members::{Member, check_members};
pub use models::ModelListSettings;
pub use observe::ObserveSettings;
pub use of_model::{ModelOverrides, ModelSettings};
pub use order::OrderSettings;
pub use own_headers::OwnHeaders;
pub use process::ProcessSettings;
pub use reload::{Reload, take_over};
pub use sequences::SequenceSettings;
pub use servers::ServerSettings;
pub use streams::StreamSettings;
pub use timeouts::TimeoutSettings;
pub use warm_up::WarmUpSettings;

use table::{Group, Row};

/// A setting that is not valid: which, and what is allowed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct InvalidSetting {
    /// Name of the setting.
    pub field: &'static str,
    /// What is wrong and what would be right.
    pub problem: String,
}

/// Defines [`Settings`] of groups.
macro_rules! groups {
    ($($name:ident: $group:ident,)+) => {
        /// Everything that can be set. No setting names the model's speed: that is learned.
        #[derive(Debug, Clone, Default)]
        #[allow(missing_docs)] // Each group says it.
        pub struct Settings {
            $(pub $name: $group,)+
        }

        impl Settings {
            /// Returns all settings, group by group: each group's title and its rows.
            fn groups() -> Vec<(&'static str, &'static [Row])> {
                vec![$(($group::ABOUT[0].trim(), $group::ROWS)),+]
            }

            /// Takes the value of the setting `name` from `map`.
            fn read<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<(), A::Error> {
                $(
                    if self.$name.read(name, map)? {
                        return Ok(());
                    }
                )+
                Ok(())
            }

            fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                $(self.$name.write(map)?;)+
                Ok(())
            }

            fn check_bounds(&self) -> Result<(), InvalidSetting> {
                $(self.$name.check_bounds()?;)+
                Ok(())
            }
        }
    };
}

groups! {
    process: ProcessSettings,
    servers: ServerSettings,
    models: ModelListSettings,
    batching: BatchingSettings,
    order: OrderSettings,
    sequences: SequenceSettings,
    holding: HoldingSettings,
    limits: LimitSettings,
    timeouts: TimeoutSettings,
    access: AccessSettings,
    streams: StreamSettings,
    warm_up: WarmUpSettings,
    drain: DrainSettings,
    observe: ObserveSettings,
}

/// Returns settings with some of their values replaced: `with_settings!(settings, batching.max_batch_rows = 4)`.
#[macro_export]
macro_rules! with_settings {
    ($settings:expr $(, $group:ident.$field:ident = $value:expr)* $(,)?) => {{
        #[allow(unused_mut)]
        let mut settings: $crate::settings::Settings = $settings;
        $(settings.$group.$field = $value;)*
        settings
    }};
}

impl Settings {
    fn rows() -> impl Iterator<Item = &'static Row> {
        Self::groups().into_iter().flat_map(|(_, rows)| rows)
    }

    /// Returns all values by the names that they have in the settings file.
    fn by_name(&self) -> Map<String, Value> {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => fields,
            // Settings are written as a map.
            _ => Map::new(),
        }
    }

    /// Checks what types cannot.
    ///
    /// # Errors
    /// The first setting that is not valid.
    pub fn validate(&self) -> Result<(), InvalidSetting> {
        self.servers.check()?;
        if self.servers.role == Role::Gateway && self.holding.while_cold == WhileCold::Reject {
            return Err(InvalidSetting {
                field: "whileCold",
                problem:
                    "reject is for role sidecar; a gateway holds requests, or nothing could start from zero"
                        .to_owned(),
            });
        }
        self.check_bounds()?;
        self.batching.check()?;
        self.order.check()?;
        self.observe.check()?;
        self.drain.check()?;
        self.streams.check()?;
        self.access.check()?;
        self.models.check()
    }

    /// Returns a digest of everything that decides which batches a model server must have been warmed with. It only has to
    /// tell one state from the next within this process.
    pub fn warmth_digest(&self) -> u64 {
        let mut values = self.by_name();
        values.retain(|name, _| {
            Self::rows().any(|row| row.setting.name == name && row.setting.reload == table::Reload::Rewarms)
        });
        let mut hasher = DefaultHasher::new();
        Value::Object(values).to_string().hash(&mut hasher);
        // Of the settings of single models, only those that decide about sizes.
        for model in self.batching.model_settings.keys() {
            let own = self.batching.of_model(model);
            (model, own.batch_rows(), format!("{:?}", own.batching)).hash(&mut hasher);
        }
        hasher.finish()
    }
}

#[cfg(test)]
mod tests;

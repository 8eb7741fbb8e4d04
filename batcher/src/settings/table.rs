//! The table of settings: one entry says everything about a setting.
//!
//! A group of settings is written once, with [`settings_group!`]. From an entry follow the field of the group's struct, the
//! name in the settings file, the flag, the environment variable, the default, `--help`, the bounds, what a change at run
//! time does, and the row in the README.

use serde::de::MapAccess;
use serde::ser::SerializeMap;

use super::InvalidSetting;
use super::flags::SettingType;

/// What it takes for a changed value to be in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reload {
    /// Nothing: it holds from the next request on.
    AtOnce,
    /// Every model server is warmed again, because it was warmed with the old value.
    Rewarms,
    /// A new process: it is read once, when the program starts.
    AtStart,
}

/// Least and largest value of a number, both allowed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bounds {
    AtLeastOne,
    AtMost(f64),
    /// From 1 to this.
    FromOneTo(f64),
    Between(f64, f64),
}

impl Bounds {
    /// Checks `number`.
    ///
    /// # Errors
    /// What is allowed, for a person.
    pub(crate) fn check(self, number: f64) -> Result<(), String> {
        let problem = match self {
            Self::AtLeastOne | Self::FromOneTo(_) if number < 1.0 => "must be at least 1".to_owned(),
            Self::AtMost(most) | Self::FromOneTo(most) if number > most => {
                format!("{number} is more than {most}")
            }
            // Not a number is in no range.
            Self::Between(least, most) if !(least..=most).contains(&number) => {
                format!("{number} is not between {least} and {most}")
            }
            _ => return Ok(()),
        };
        Err(problem)
    }
}

/// Whether a setting has a flag, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Flag {
    /// `--max-batch-rows` and `SLUICE_BATCHER_MAX_BATCH_ROWS` for `maxBatchRows`.
    ByName,
    /// A flag of this name that may be repeated; no environment variable.
    Repeated(&'static str),
    /// None: the settings file alone has it.
    FileOnly,
}

/// One setting, without its type and its default.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Setting {
    /// Name in the settings file.
    pub(crate) name: &'static str,
    pub(crate) flag: Flag,
    /// What stands for the flag's value in `--help`; `None`: the setting's name in capitals.
    pub(crate) value_name: Option<&'static str>,
    /// Whether `--help` hides the value that the environment gives.
    pub(crate) is_secret: bool,
    pub(crate) reload: Reload,
    pub(crate) bounds: Option<Bounds>,
    /// Describes the default where it is no value, such as "the middle one".
    pub(crate) absent: Option<&'static str>,
}

impl Setting {
    /// Creates a setting that has a flag, no bounds, and holds at once when it changes.
    pub(crate) const fn new(name: &'static str) -> Self {
        Self {
            name,
            flag: Flag::ByName,
            value_name: None,
            is_secret: false,
            reload: Reload::AtOnce,
            bounds: None,
            absent: None,
        }
    }

    pub(crate) const fn file_only(mut self) -> Self {
        self.flag = Flag::FileOnly;
        self
    }

    pub(crate) const fn repeated_flag(mut self, long: &'static str) -> Self {
        self.flag = Flag::Repeated(long);
        self
    }

    pub(crate) const fn value_name(mut self, name: &'static str) -> Self {
        self.value_name = Some(name);
        self
    }

    pub(crate) const fn secret(mut self) -> Self {
        self.is_secret = true;
        self
    }

    pub(crate) const fn rewarms(mut self) -> Self {
        self.reload = Reload::Rewarms;
        self
    }

    pub(crate) const fn at_start(mut self) -> Self {
        self.reload = Reload::AtStart;
        self
    }

    pub(crate) const fn bounds(mut self, bounds: Bounds) -> Self {
        self.bounds = Some(bounds);
        self
    }

    pub(crate) const fn absent(mut self, words: &'static str) -> Self {
        self.absent = Some(words);
        self
    }

    /// Checks the bounds of a value of this setting.
    ///
    /// # Errors
    /// Names the setting and what is allowed.
    pub(crate) fn check(&self, value: &impl SettingType) -> Result<(), InvalidSetting> {
        match (self.bounds, value.number()) {
            (Some(bounds), Some(number)) => {
                bounds.check(number).map_err(|problem| InvalidSetting { field: self.name, problem })
            }
            _ => Ok(()),
        }
    }
}

/// One row of the table: a setting with what its field says.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) setting: Setting,
    /// Lines of the doc comment: up to the first empty one for `--help`, all of them for the README.
    pub(crate) doc: &'static [&'static str],
    /// Name of the field, for tests.
    #[cfg_attr(not(test), expect(dead_code))]
    pub(crate) field: &'static str,
    pub(crate) argument: fn(clap::Arg) -> clap::Arg,
    pub(crate) given: fn(&mut clap::ArgMatches, &str) -> Option<serde_json::Value>,
}

impl Row {
    /// Returns the first paragraph of the doc comment, on one line and without the last full stop.
    pub(crate) fn help(&self) -> String {
        let lines: Vec<&str> =
            self.doc.iter().map(|line| line.trim()).take_while(|line| !line.is_empty()).collect();
        lines.join(" ").trim_end_matches('.').to_owned()
    }
}

/// Settings that belong together, and that rooms take as one.
pub(crate) trait Group: Default {
    /// Lines of the group's doc comment.
    const ABOUT: &'static [&'static str];
    const ROWS: &'static [Row];

    /// Takes the value of the setting `name` from `map`. Returns whether the group has such a setting.
    fn read<'de, A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error>;

    /// Adds all settings of the group to `map`.
    fn write<M: SerializeMap>(&self, map: &mut M) -> Result<(), M::Error>;

    /// Checks the bounds of each setting.
    fn check_bounds(&self) -> Result<(), InvalidSetting>;
}

/// Defines a group of settings. Each entry: doc comment, field, type, default, and a [`Setting`] with the rest.
macro_rules! settings_group {
    (
        $(#[doc = $about:literal])+
        pub struct $group:ident {
            $(
                $(#[doc = $doc:literal])+
                $field:ident: $type:ty = $default:expr, $setting:expr;
            )+
        }
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq)]
        pub struct $group {
            $($(#[doc = $doc])+ pub $field: $type,)+
        }

        impl Default for $group {
            fn default() -> Self {
                Self { $($field: $default),+ }
            }
        }

        impl $crate::settings::table::Group for $group {
            const ABOUT: &'static [&'static str] = &[$($about),+];
            const ROWS: &'static [$crate::settings::table::Row] = &[$(
                $crate::settings::table::Row {
                    setting: $setting,
                    doc: &[$($doc),+],
                    field: stringify!($field),
                    argument: <$type as $crate::settings::flags::SettingType>::argument,
                    given: <$type as $crate::settings::flags::SettingType>::given,
                }
            ),+];

            fn read<'de, A: serde::de::MapAccess<'de>>(
                &mut self,
                name: &str,
                map: &mut A,
            ) -> Result<bool, A::Error> {
                $(
                    if name == const { $setting }.name {
                        self.$field = map.next_value()?;
                        return Ok(true);
                    }
                )+
                Ok(false)
            }

            fn write<M: serde::ser::SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                $(map.serialize_entry(const { $setting }.name, &self.$field)?;)+
                Ok(())
            }

            fn check_bounds(&self) -> Result<(), $crate::settings::InvalidSetting> {
                $(const { $setting }.check(&self.$field)?;)+
                Ok(())
            }
        }
    };
}

pub(crate) use settings_group;

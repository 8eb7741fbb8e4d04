//! Flags and environment variables of the settings, made from the table of settings.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::LazyLock;

use clap::builder::{EnumValueParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches, value_parser};
use serde::Serialize;
use serde_json::{Map, Value};
use sluice_process::logging::LogFormat;

use super::choices::{
    AccessLogSetting, Batching, ControlPaths, Deferral, FormSetting, Padding, Role, SlotSharing, Streaming,
    Warmup, WhileCold,
};
use super::table::{Flag, Row};
use super::{Member, ModelOverrides, OwnHeaders, Settings};

/// Type of a setting, as flags give it. Types without methods of their own cannot be given by a flag.
pub(crate) trait SettingType {
    /// Adds to a flag how its value is read.
    fn argument(argument: Arg) -> Arg {
        argument
    }

    /// Returns the flag's value, `None` where the flag was not given.
    fn given(_matches: &mut ArgMatches, _id: &str) -> Option<Value> {
        None
    }

    /// Returns the value as a number, for bounds; `None` where the value is not a number.
    fn number(&self) -> Option<f64> {
        None
    }
}

impl SettingType for OwnHeaders {}
impl SettingType for Vec<Member> {}
impl SettingType for BTreeMap<String, u32> {}
impl SettingType for BTreeMap<String, ModelOverrides> {}

/// Types with one value for each flag.
macro_rules! single_values {
    ($($type:ty: $parser:expr, $number:expr;)+) => {$(
        impl SettingType for $type {
            fn argument(argument: Arg) -> Arg {
                argument.value_parser(ValueParser::from($parser))
            }

            fn given(matches: &mut ArgMatches, id: &str) -> Option<Value> {
                matches.remove_one::<$type>(id).map(|value| to_value(&value))
            }

            fn number(&self) -> Option<f64> {
                let number: fn(&$type) -> Option<f64> = $number;
                number(self)
            }
        }
    )+};
}

single_values! {
    u8: value_parser!(u8), |number| Some(f64::from(*number));
    u32: value_parser!(u32), |number| Some(f64::from(*number));
    u64: value_parser!(u64), |number| Some(*number as f64);
    usize: value_parser!(usize), |number| Some(*number as f64);
    f64: value_parser!(f64), |number| Some(*number);
    String: value_parser!(String), |_| None;
    PathBuf: value_parser!(PathBuf), |_| None;
    SocketAddr: value_parser!(SocketAddr), |_| None;
    AccessLogSetting: EnumValueParser::<AccessLogSetting>::new(), |_| None;
    Batching: EnumValueParser::<Batching>::new(), |_| None;
    ControlPaths: EnumValueParser::<ControlPaths>::new(), |_| None;
    Deferral: EnumValueParser::<Deferral>::new(), |_| None;
    FormSetting: EnumValueParser::<FormSetting>::new(), |_| None;
    LogFormat: EnumValueParser::<LogFormat>::new(), |_| None;
    Padding: EnumValueParser::<Padding>::new(), |_| None;
    Role: EnumValueParser::<Role>::new(), |_| None;
    SlotSharing: EnumValueParser::<SlotSharing>::new(), |_| None;
    Streaming: EnumValueParser::<Streaming>::new(), |_| None;
    Warmup: EnumValueParser::<Warmup>::new(), |_| None;
    WhileCold: EnumValueParser::<WhileCold>::new(), |_| None;
}

impl<T: SettingType> SettingType for Option<T> {
    fn argument(argument: Arg) -> Arg {
        T::argument(argument)
    }

    fn given(matches: &mut ArgMatches, id: &str) -> Option<Value> {
        T::given(matches, id)
    }

    fn number(&self) -> Option<f64> {
        self.as_ref().and_then(T::number)
    }
}

/// Types with several values, separated by commas where the flag is not a repeated one.
macro_rules! lists {
    ($($type:ty),+) => {$(
        impl SettingType for Vec<$type> {
            fn argument(argument: Arg) -> Arg {
                <$type>::argument(argument).action(ArgAction::Append)
            }

            fn given(matches: &mut ArgMatches, id: &str) -> Option<Value> {
                matches.remove_many::<$type>(id).map(|values| to_value(&values.collect::<Vec<_>>()))
            }
        }
    )+};
}

lists!(String, u32);

/// Numbers, texts and lists of them are always values.
fn to_value(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

/// Values of the settings that flags or the environment give, by the names of the settings.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub struct SettingFlags(Map<String, Value>);

/// Flag of one setting.
struct SettingFlag {
    row: &'static Row,
    long: String,
    /// Environment variable of the setting; `None` if it has none.
    variable: Option<String>,
    value_name: String,
    help: String,
}

/// clap keeps references, so what is computed is kept for the life of the process.
static FLAGS: LazyLock<Vec<SettingFlag>> = LazyLock::new(|| {
    let defaults = Settings::default().by_name();
    Settings::rows().filter_map(|row| SettingFlag::of(row, defaults.get(row.setting.name)?)).collect()
});

impl SettingFlag {
    /// Returns the flag of a setting, `None` where it has none.
    fn of(row: &'static Row, default: &Value) -> Option<Self> {
        let words = words(row.setting.name);
        let capitals = words.join("_").to_uppercase();
        let (long, variable) = match row.setting.flag {
            Flag::ByName => (words.join("-"), Some(format!("SLUICE_BATCHER_{capitals}"))),
            Flag::Repeated(long) => (long.to_owned(), None),
            Flag::FileOnly => return None,
        };
        let default = match default {
            _ if row.setting.absent.is_some() => row.setting.absent.unwrap_or_default().to_owned(),
            Value::String(text) => text.clone(),
            // 0 rather than 0.0.
            Value::Number(number) => number.as_f64().unwrap_or_default().to_string(),
            _ => String::new(),
        };
        let default = if default.is_empty() { default } else { format!(" [default: {default}]") };
        Some(Self {
            row,
            long,
            variable,
            value_name: row.setting.value_name.map_or(capitals, str::to_owned),
            help: format!("{}{default}", row.help()),
        })
    }

    fn argument(&'static self) -> Arg {
        let mut argument = Arg::new(self.row.setting.name)
            .long(self.long.as_str())
            .value_name(self.value_name.as_str())
            .help(self.help.as_str())
            .hide_env_values(self.row.setting.is_secret);
        if let Some(variable) = &self.variable {
            argument = argument.env(variable.as_str());
        }
        argument = (self.row.argument)(argument);
        // A repeated flag has one value at a time, and that may hold commas.
        if matches!(argument.get_action(), ArgAction::Append) && self.row.setting.flag == Flag::ByName {
            argument = argument.value_delimiter(',');
        }
        argument
    }
}

/// `max_batch_rows` of `maxBatchRows`, as words.
fn words(name: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    for letter in name.chars() {
        if letter.is_ascii_uppercase() {
            words.push(String::new());
        }
        if let Some(word) = words.last_mut() {
            word.push(letter.to_ascii_lowercase());
        }
    }
    words
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        FLAGS.iter().fold(command, |command, flag| command.arg(flag.argument()))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        Self::from_arg_matches_mut(&mut matches.clone())
    }

    fn from_arg_matches_mut(matches: &mut ArgMatches) -> Result<Self, clap::Error> {
        let mut given = Self::default();
        given.update_from_arg_matches_mut(matches)?;
        Ok(given)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        self.update_from_arg_matches_mut(&mut matches.clone())
    }

    fn update_from_arg_matches_mut(&mut self, matches: &mut ArgMatches) -> Result<(), clap::Error> {
        let given = FLAGS.iter().filter_map(|flag| {
            let name = flag.row.setting.name;
            Some((name.to_owned(), (flag.row.given)(matches, name)?))
        });
        self.0.extend(given);
        Ok(())
    }
}

//! Logs on standard error, as text for people or as JSON for collectors.

mod filter;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// Form of the log lines.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line a record, for people.
    #[default]
    Text,
    /// One JSON object a record, for collectors.
    Json,
}

/// Starts logging; `level` is a filter such as `info` or `warn,sluice_driver=debug`.
///
/// # Errors
/// Names the part of the filter that is not valid. A second call in one process is an error too.
pub fn init(format: LogFormat, level: &str) -> Result<(), String> {
    filter::check(level).map_err(|problem| format!("logLevel {level:?}: {problem}"))?;
    let filter = EnvFilter::try_new(level).map_err(|error| {
        format!("logLevel {level:?}: {error}; use error, warn, info, debug or trace, or target=level,…")
    })?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match format {
        LogFormat::Text => builder.with_ansi(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    }
    .map_err(|error| error.to_string())
}

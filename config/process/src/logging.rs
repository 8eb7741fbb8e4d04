//! Logs on standard error, as text for people or as JSON for collectors.

mod filter;

use std::io::{self, Write};

use clap::ValueEnum;
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

use crate::printable::printable;

/// Format of the log lines.
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
    let builder = tracing_subscriber::fmt().with_env_filter(filter);
    match format {
        LogFormat::Text => builder.with_ansi(false).with_writer(|| Lines(io::stderr())).try_init(),
        LogFormat::Json => builder.json().with_writer(io::stderr).try_init(),
    }
    .map_err(|error| error.to_string())
}

/// Writes each record, which comes as a whole, as one printable line: records quote untrusted input.
struct Lines<W>(W);

impl<W: Write> Write for Lines<W> {
    fn write(&mut self, record: &[u8]) -> io::Result<usize> {
        let text = String::from_utf8_lossy(record);
        let (line, end) = text.strip_suffix('\n').map_or((text.as_ref(), ""), |line| (line, "\n"));
        self.0.write_all(format!("{}{end}", printable(line)).as_bytes())?;
        Ok(record.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Memory(Arc<Mutex<Vec<u8>>>);

    impl Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_record_is_one_line_that_only_shows_whatever_it_quotes() {
        let memory = Memory::default();
        let written = memory.clone();
        let subscriber =
            tracing_subscriber::fmt().with_ansi(false).with_writer(move || Lines(memory.clone())).finish();
        tracing::subscriber::with_default(subscriber, || {
            let evil = "x\u{1b}[2J\n2026-01-01T00:00:00Z  INFO forged\u{202e}\u{9b}";
            tracing::warn!(name = evil, shown = %evil, "The object {evil} is refused.");
            tracing::warn!("Next.");
        });
        let text = String::from_utf8(written.0.lock().unwrap().clone()).unwrap();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(text.chars().all(|c| c == '\n' || crate::printable::is_printable(c)), "{text:?}");
        assert!(text.contains("INFO forged"), "nothing is lost: {text}");
    }
}

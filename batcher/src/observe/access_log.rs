//! The access log: one line of JSON per request, written by a separate thread. If the thread cannot keep up, lines are
//! dropped and counted; requests never wait for it.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};
use metrics::counter;
use sluice_config::metric_names::batcher as names;

use super::record::Record;

/// Maximum number of lines that wait to be written.
const QUEUE_LINES: usize = 8192;

/// Sends records to the thread that writes them.
#[derive(Debug, Clone)]
pub struct AccessLog(Sender<Arc<Record>>);

impl AccessLog {
    /// Starts an access log that appends to `file`, or writes to standard output if that is `None`.
    ///
    /// # Errors
    /// Fails if the file cannot be opened or the thread cannot be started.
    pub fn to(file: Option<PathBuf>) -> io::Result<Self> {
        let target: Box<dyn Write + Send> = match file {
            Some(path) => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
            None => Box::new(io::stdout()),
        };
        let (sender, lines) = bounded(QUEUE_LINES);
        std::thread::Builder::new().name("access-log".into()).spawn(move || write(target, &lines))?;
        Ok(Self(sender))
    }

    /// Writes the line of one request.
    pub fn log(&self, record: Arc<Record>) {
        if self.0.try_send(record).is_err() {
            counter!(names::ACCESS_LOG_DROPPED_TOTAL).increment(1);
        }
    }
}

fn write(target: Box<dyn Write + Send>, lines: &Receiver<Arc<Record>>) {
    let mut target = BufWriter::with_capacity(64 << 10, target);
    let mut failing = false;
    while let Ok(record) = lines.recv() {
        let written = serde_json::to_writer(&mut target, &*record)
            .map_err(io::Error::from)
            .and_then(|()| target.write_all(b"\n"))
            .and_then(|()| if lines.is_empty() { target.flush() } else { Ok(()) });
        if let Err(error) = &written {
            counter!(names::ACCESS_LOG_DROPPED_TOTAL).increment(1);
            if !failing {
                tracing::error!(%error, "Failed to write the access log.");
            }
        }
        failing = written.is_err();
    }
}

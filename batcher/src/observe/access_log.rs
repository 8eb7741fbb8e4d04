//! The access log: one line of JSON a request, written by a thread of its own. When it cannot keep up, lines are
//! dropped and counted; requests never wait for it.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::PathBuf;
use std::sync::Arc;

use crossbeam::channel::{Receiver, Sender, bounded};
use metrics::counter;
use sluice_config::metric_names::batcher as names;

use super::record::Record;

/// Lines that may wait.
const QUEUE_LINES: usize = 8192;

/// Where lines go.
#[derive(Debug, Clone)]
pub struct AccessLog(Sender<Arc<Record>>);

impl AccessLog {
    /// To the end of a file, or to standard output.
    ///
    /// # Errors
    /// The file cannot be opened, or there is no thread.
    pub fn to(file: Option<PathBuf>) -> io::Result<Self> {
        let target: Box<dyn Write + Send> = match file {
            Some(path) => Box::new(OpenOptions::new().create(true).append(true).open(path)?),
            None => Box::new(io::stdout()),
        };
        let (sender, lines) = bounded(QUEUE_LINES);
        std::thread::Builder::new().name("access-log".into()).spawn(move || write(target, &lines))?;
        Ok(Self(sender))
    }

    /// Writes one.
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
                tracing::error!(%error, "The access log cannot be written.");
            }
        }
        failing = written.is_err();
    }
}

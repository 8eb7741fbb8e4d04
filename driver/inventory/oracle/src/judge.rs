//! The scheduler's allocator, as a program that answers each line of JSON that it gets with one line of JSON.
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail};

use sluice_inventory_oracle::answer::Answer;
use sluice_inventory_oracle::state::State;

/// The running program.
pub(crate) struct Judge {
    child: Child,
    input: ChildStdin,
    output: BufReader<ChildStdout>,
}

impl Judge {
    /// Starts the program.
    pub(crate) fn start(program: &Path) -> Result<Self> {
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let (Some(input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("{} has no standard input or output", program.display());
        };
        Ok(Self { child, input, output: BufReader::new(output) })
    }

    /// Asks about a state.
    pub(crate) fn ask(&mut self, state: &State) -> Result<Answer> {
        serde_json::to_writer(&mut self.input, state).context("cannot ask the scheduler's allocator")?;
        self.input
            .write_all(b"\n")
            .and_then(|()| self.input.flush())
            .context("cannot ask the scheduler's allocator")?;
        let mut line = String::new();
        self.output.read_line(&mut line).context("cannot read the scheduler's answer")?;
        serde_json::from_str(&line).with_context(|| format!("the scheduler's answer is {line:?}"))
    }
}

impl Drop for Judge {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

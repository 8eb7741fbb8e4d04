//! Orders to the supervisor from outside, over a socket in the cluster's folder: one line of JSON each way.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// How long the supervisor may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// How long a component may take to end after SIGTERM.
const STOPPED_WITHIN: Duration = Duration::from_secs(20);
/// How long a component may take to run again.
const STARTED_WITHIN: Duration = Duration::from_secs(30);
/// How often a wait asks again.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// What to do with a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Verb {
    /// Nothing: only tell.
    Status,
    /// Keep it running (again).
    Start,
    /// SIGTERM, and leave it ended.
    Stop,
    /// SIGKILL, as a crash: it is started again.
    Kill,
}

/// One order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// What to do.
    pub verb: Verb,
    /// With which component; empty for [`Verb::Status`].
    #[serde(default)]
    pub component: String,
}

/// The answer to every order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Response {
    /// Why the order could not be followed.
    pub error: Option<String>,
    /// All components, in the order in which they start.
    pub components: Vec<Status>,
}

/// How a component is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Its name: `kubelet`.
    pub name: String,
    /// Process id inside the cluster's namespaces; `None` while it does not run.
    pub pid: Option<u32>,
    /// Times that it was started again after it ended by itself.
    pub restarts: u32,
    /// How it last ended.
    pub last_end: Option<String>,
}

/// The side that gives orders.
#[derive(Debug, Clone)]
pub(crate) struct SupervisorClient {
    socket: PathBuf,
}

impl SupervisorClient {
    /// The supervisor that listens on `socket`.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// All components.
    ///
    /// # Errors
    /// When the supervisor does not answer.
    pub(crate) fn status(&self) -> Result<Vec<Status>> {
        self.order(Verb::Status, "")
    }

    /// SIGKILL; it is started again after a second.
    ///
    /// # Errors
    /// When there is no such component, or it does not run.
    pub(crate) fn kill(&self, component: &str) -> Result<()> {
        self.order(Verb::Kill, component).map(drop)
    }

    /// SIGKILL, then waits until it runs again.
    ///
    /// # Errors
    /// When there is no such component, or it does not run again.
    pub(crate) fn crash(&self, component: &str) -> Result<()> {
        let before = self.status()?.into_iter().find(|status| status.name == component);
        self.kill(component)?;
        let restarts = before.map_or(0, |status| status.restarts);
        self.wait(component, STARTED_WITHIN, "running again", |status| {
            status.restarts > restarts && status.pid.is_some()
        })
    }

    /// SIGTERM, then waits until it ended.
    ///
    /// # Errors
    /// When there is no such component, or it does not end.
    pub(crate) fn stop(&self, component: &str) -> Result<()> {
        self.order(Verb::Stop, component)?;
        self.wait(component, STOPPED_WITHIN, "ended", |status| status.pid.is_none())
    }

    /// Starts it, and waits until its process runs (which is not yet: ready).
    ///
    /// # Errors
    /// When there is no such component, or it does not start.
    pub(crate) fn start(&self, component: &str) -> Result<()> {
        self.order(Verb::Start, component)?;
        self.wait(component, STARTED_WITHIN, "running", |status| status.pid.is_some())
    }

    fn wait(
        &self,
        component: &str,
        within: Duration,
        what: &str,
        is: impl Fn(&Status) -> bool,
    ) -> Result<()> {
        let start = Instant::now();
        loop {
            let all = self.status()?;
            match all.iter().find(|status| status.name == component) {
                Some(status) if is(status) => return Ok(()),
                last if start.elapsed() > within => {
                    bail!("{component} is not {what} after {} s: {last:?}", within.as_secs())
                }
                _ => std::thread::sleep(ASK_EVERY),
            }
        }
    }

    fn order(&self, verb: Verb, component: &str) -> Result<Vec<Status>> {
        let answer = self.ask(&Order { verb, component: component.to_owned() });
        let answer = answer.with_context(|| format!("the supervisor at {}", self.socket.display()))?;
        match answer.error {
            Some(error) => bail!(error),
            None => Ok(answer.components),
        }
    }

    fn ask(&self, order: &Order) -> Result<Response> {
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        let mut line = serde_json::to_string(order)?;
        line.push('\n');
        stream.write_all(line.as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        serde_json::from_str(&answer).context("it did not answer")
    }
}

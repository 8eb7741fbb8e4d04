//! Protocol and client of the supervisor: one line of JSON each way over a socket in the cluster's folder.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// Time limit of the supervisor's response.
const RESPONSE_WITHIN: Duration = Duration::from_secs(10);
/// Time limit for a component to end after SIGTERM.
const STOPPED_WITHIN: Duration = Duration::from_secs(20);
/// Time limit for a component to run again.
const STARTED_WITHIN: Duration = Duration::from_secs(30);
/// Polling interval of waits.
const ASK_EVERY: Duration = Duration::from_millis(50);

/// Action on a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Verb {
    /// Only return the status of all components.
    Status,
    /// Start it, and keep it running.
    Start,
    /// Send SIGTERM, and do not restart it.
    Stop,
    /// Send SIGKILL, as a crash; it is restarted.
    Kill,
}

/// One order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Order {
    /// What to do.
    pub verb: Verb,
    /// Name of the component; empty for [`Verb::Status`].
    #[serde(default)]
    pub component: String,
}

/// Response to an order.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Response {
    /// Reason why the order failed; `None` on success.
    pub error: Option<String>,
    /// All components, in the order in which they start.
    pub components: Vec<Status>,
}

/// Status of a component.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// Name, such as `kubelet`.
    pub name: String,
    /// Process id inside the cluster's namespaces; `None` while it does not run.
    pub pid: Option<u32>,
    /// Number of restarts.
    pub restarts: u32,
    /// Description of its last end; `None` if it never ended.
    pub last_end: Option<String>,
}

/// Client of the supervisor.
#[derive(Debug, Clone)]
pub(crate) struct SupervisorClient {
    socket: PathBuf,
}

impl SupervisorClient {
    /// Creates a client of the supervisor that listens on `socket`.
    pub(crate) fn new(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// Returns the status of all components.
    ///
    /// # Errors
    /// When the supervisor does not answer.
    pub(crate) fn status(&self) -> Result<Vec<Status>> {
        self.order(Verb::Status, "")
    }

    /// Sends SIGKILL to a component; the supervisor restarts it after a second.
    ///
    /// # Errors
    /// When there is no such component, or it does not run.
    pub(crate) fn kill(&self, component: &str) -> Result<()> {
        self.order(Verb::Kill, component).map(drop)
    }

    /// Sends SIGKILL to a component, then waits until it runs again.
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

    /// Sends SIGTERM to a component, then waits until it has ended.
    ///
    /// # Errors
    /// When there is no such component, or it does not end.
    pub(crate) fn stop(&self, component: &str) -> Result<()> {
        self.order(Verb::Stop, component)?;
        self.wait(component, STOPPED_WITHIN, "ended", |status| status.pid.is_none())
    }

    /// Starts a component, and waits until its process runs. It need not be ready by then.
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
        stream.set_read_timeout(Some(RESPONSE_WITHIN))?;
        let mut line = serde_json::to_string(order)?;
        line.push('\n');
        stream.write_all(line.as_bytes())?;
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer)?;
        serde_json::from_str(&answer).context("it did not answer")
    }
}

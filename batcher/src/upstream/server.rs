//! One model server, as all tasks but its monitor see it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use http::HeaderValue;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::timeout;

use super::connection::{Connection, Wire};
use super::discovery::Discovered;
use super::endpoint::{Endpoint, host_of};
use super::epoch::{Identity, Phase};
use crate::answers::budget::AnswerBudget;
use crate::settings::Member;
use crate::slots::SharedSlotPool;

/// Longest time that a connection may take until it can be used. As long as a question to the model server, which
/// its verification may be.
pub const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// One model server, as everybody but its monitor sees it.
#[derive(Debug)]
pub struct Upstream {
    /// Tells it from all others, those that had its name before too.
    pub(super) number: u64,
    pub(super) member: Member,
    pub(super) host: HeaderValue,
    pub(super) grpc_host: HeaderValue,
    pub(super) phase: AtomicU8,
    /// Number of the epoch whose barrier is open; 0 while it is closed.
    pub(super) open: AtomicU64,
    /// The epoch that was observed last, warm or not.
    pub(super) epoch: ArcSwapOption<Epoch>,
    pub(super) discovered: ArcSwap<Discovered>,
    pub(super) inflight: AtomicUsize,
    /// Requests that were ever started.
    pub(super) begun: AtomicU64,
    /// Number of the epoch that has told of a model by V2's metadata, and of the one that has by other answers.
    pub(super) tells_v2: AtomicU64,
    pub(super) tells: AtomicU64,
    pub(super) asking: super::asking::Asking,
    /// It closes each connection after one answer.
    pub(super) closes: AtomicBool,
    /// Its slots, between the models that it serves.
    pub(super) slots: Arc<SharedSlotPool>,
    /// Wakes the monitor: the last request in flight has ended.
    pub(super) idle: Notify,
    pub(super) reports: mpsc::UnboundedSender<Report>,
    pub(super) relay: super::relay::Connections,
    /// What it says of models that it was not asked to warm.
    pub(super) whereabouts: super::whereabouts::Whereabouts,
    /// Memory for its answers.
    pub answers: AnswerBudget,
}

/// One loaded model server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// Counts from 1 per upstream.
    pub number: u64,
    /// What it is asked over, and where: that place's listener is its identity.
    pub wire: Wire,
    /// Where it listens for HTTP/1.1, if it does.
    pub http: Option<Endpoint>,
    /// Where it listens for gRPC, if it does.
    pub grpc: Endpoint,
    /// Who it is.
    pub identity: Identity,
}

impl Epoch {
    /// The place whose listener is its identity.
    pub fn asked_at(&self) -> &Endpoint {
        match (self.wire, &self.http) {
            (Wire::Rest, Some(http)) => http,
            _ => &self.grpc,
        }
    }
}

/// What users of an upstream tell its monitor. Bounded by the number of slots and of requests in flight.
#[derive(Debug)]
pub enum Report {
    /// A slot's connection failed; the slot has been given up and is to be replaced if the epoch still stands.
    SlotFailed {
        /// The epoch that the slot belonged to.
        epoch: u64,
        /// Whose slot it was.
        model: Arc<str>,
    },
    /// Is this epoch still there? Answered by asking over a connection that is known to belong to it.
    Verify {
        /// The epoch.
        epoch: u64,
        /// The answer.
        reply: oneshot::Sender<bool>,
    },
}

/// Why there is no connection to an epoch.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The system's words.
    #[error("cannot connect to {endpoint}: {source}")]
    Refused {
        /// Where to.
        endpoint: Endpoint,
        /// Why not.
        source: std::io::Error,
    },
    /// It has no HTTP/1.1 port.
    #[error("the model server speaks gRPC only")]
    NoHttp,
    /// Somebody else listens there now.
    #[error("the model server at {0} is another one than was warmed")]
    Changed(Endpoint),
    /// Nobody said in time who listens there.
    #[error("nobody said in time whether the model server at {0} is the one that was warmed")]
    Unverified(Endpoint),
}

/// A request on its way to an upstream. While it lives, the upstream is not forgotten.
#[derive(Debug)]
pub struct InFlight(Arc<Upstream>);

impl Drop for InFlight {
    fn drop(&mut self) {
        if self.0.inflight.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.idle.notify_one();
        }
    }
}

impl Upstream {
    pub(super) fn new(member: Member, reports: mpsc::UnboundedSender<Report>, answers: AnswerBudget) -> Self {
        static UPSTREAMS: AtomicU64 = AtomicU64::new(0);
        let host = host_of(member.main_address());
        let grpc_host = host_of(member.grpc());
        Self {
            number: UPSTREAMS.fetch_add(1, Ordering::Relaxed),
            member,
            host,
            grpc_host,
            phase: AtomicU8::new(Phase::Connecting as u8),
            open: AtomicU64::new(0),
            epoch: ArcSwapOption::empty(),
            discovered: ArcSwap::default(),
            inflight: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            tells_v2: AtomicU64::new(0),
            tells: AtomicU64::new(0),
            asking: super::asking::Asking::default(),
            closes: AtomicBool::new(false),
            slots: SharedSlotPool::new(0),
            idle: Notify::new(),
            reports,
            relay: super::relay::Connections::default(),
            whereabouts: super::whereabouts::Whereabouts::default(),
            answers,
        }
    }

    /// One whose barrier is open, with what its monitor is told: for tests of those who use it.
    #[cfg(test)]
    pub(crate) fn open_at(
        address: std::net::SocketAddr,
    ) -> (Arc<Self>, Arc<Epoch>, mpsc::UnboundedReceiver<Report>) {
        let (reports, told) = mpsc::unbounded_channel();
        let member = Member { name: "test".into(), address: address.to_string(), grpc_address: None };
        let upstream = Arc::new(Self::new(member, reports, AnswerBudget::default()));
        let epoch = Arc::new(Epoch {
            number: 1,
            wire: Wire::Rest,
            http: Some(Endpoint::Tcp(address)),
            grpc: Endpoint::Tcp(address),
            identity: Identity::default(),
        });
        upstream.epoch.store(Some(Arc::clone(&epoch)));
        upstream.open.store(1, Ordering::SeqCst);
        (upstream, epoch, told)
    }

    /// Tells it from all others, those that had its name before too.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Its name among the members.
    pub fn name(&self) -> &str {
        &self.member.name
    }

    /// Where it is, as the membership says.
    pub fn address(&self) -> &str {
        self.member.main_address()
    }

    /// Where it is asked whether it lives.
    pub fn probe_address(&self) -> &str {
        match self.wire() {
            Wire::Rest => self.member.main_address(),
            Wire::Grpc => self.member.grpc(),
        }
    }

    /// Value of `Host` (over gRPC, of `:authority`) for requests of our own.
    pub fn host(&self, wire: Wire) -> &HeaderValue {
        match wire {
            Wire::Rest => &self.host,
            Wire::Grpc => &self.grpc_host,
        }
    }

    /// What it is asked over: what was found out, else what the membership tells.
    pub fn wire(&self) -> Wire {
        let unknown = if self.member.is_grpc_only() { Wire::Grpc } else { Wire::Rest };
        self.epoch().map_or(unknown, |epoch| epoch.wire)
    }

    /// Where it stands.
    pub fn phase(&self) -> Phase {
        let number = self.phase.load(Ordering::SeqCst);
        Phase::ALL.into_iter().find(|phase| *phase as u8 == number).unwrap_or(Phase::Down)
    }

    /// The epoch that was observed last.
    pub fn epoch(&self) -> Option<Arc<Epoch>> {
        self.epoch.load_full()
    }

    /// What is known of it.
    pub fn discovered(&self) -> Arc<Discovered> {
        self.discovered.load_full()
    }

    /// The epoch whose barrier is open.
    pub fn open_epoch(&self) -> Option<Arc<Epoch>> {
        let open = self.open.load(Ordering::SeqCst);
        self.epoch.load_full().filter(|epoch| epoch.number == open)
    }

    /// Requests (batches and relayed requests) in flight.
    pub fn inflight(&self) -> usize {
        self.inflight.load(Ordering::SeqCst)
    }

    /// How many requests were ever started: whether others have come can be told from it.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// Whether connections to it are worth keeping: not to one that closes each after an answer, perhaps just when the
    /// next request is on its way.
    pub fn keeps_connections(&self) -> bool {
        !self.closes.load(Ordering::Relaxed)
    }

    /// Its slots, between the models that it serves.
    pub fn slots(&self) -> &Arc<SharedSlotPool> {
        &self.slots
    }

    /// Whether the barrier of this epoch is open.
    pub fn is_open(&self, epoch: u64) -> bool {
        epoch != 0 && self.open.load(Ordering::SeqCst) == epoch
    }

    /// Starts a request to this epoch, if its barrier is open. Counted first and checked second, so that a
    /// monitor that closes the barrier and then sees nothing in flight can rely on it.
    pub fn begin(self: &Arc<Self>, epoch: u64) -> Option<InFlight> {
        self.inflight.fetch_add(1, Ordering::SeqCst);
        self.begun.fetch_add(1, Ordering::SeqCst);
        let guard = InFlight(Arc::clone(self));
        self.is_open(epoch).then_some(guard)
    }

    /// Tells the monitor.
    pub fn report(&self, report: Report) {
        // A monitor that is gone has drained: there is nothing left to be told.
        let _ = self.reports.send(report);
    }

    /// A new connection to this very epoch: after connecting, the listener must still be the one that was warmed.
    ///
    /// # Errors
    /// See [`ConnectError`].
    pub async fn connect(&self, epoch: &Epoch, wire: Wire) -> Result<Connection, ConnectError> {
        let endpoint = match wire {
            Wire::Rest => epoch.http.as_ref().ok_or(ConnectError::NoHttp)?,
            Wire::Grpc => &epoch.grpc,
        };
        let refused = |source| ConnectError::Refused { endpoint: endpoint.clone(), source };
        let connection = Connection::open(wire, endpoint).await.map_err(refused)?;
        self.verify(epoch).await?;
        Ok(connection)
    }

    /// Whether whoever accepted a connection just now is this epoch.
    ///
    /// # Errors
    /// [`ConnectError::Changed`], [`ConnectError::Unverified`].
    pub async fn verify(&self, epoch: &Epoch) -> Result<(), ConnectError> {
        let same = if epoch.identity.listeners.is_empty() {
            let (reply, verified) = oneshot::channel();
            self.report(Report::Verify { epoch: epoch.number, reply });
            match timeout(CONNECT_PATIENCE, verified).await {
                // Dropped unanswered: the monitor has turned to another epoch, or is gone.
                Ok(answer) => answer.unwrap_or(false),
                Err(_) => return Err(ConnectError::Unverified(epoch.asked_at().clone())),
            }
        } else {
            epoch.asked_at().listeners() == epoch.identity.listeners
        };
        if same { Ok(()) } else { Err(ConnectError::Changed(epoch.asked_at().clone())) }
    }
}

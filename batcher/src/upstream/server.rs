//! One model server, as all tasks other than its monitor see it.

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

/// Longest time until a new connection can be used. As long as for a question to the model server, because verifying
/// the connection may need one.
pub const CONNECT_PATIENCE: Duration = Duration::from_secs(5);

/// One model server, as all tasks other than its monitor see it.
#[derive(Debug)]
pub struct Upstream {
    /// Unique number; differs also from servers that had the same name before.
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
    /// Number of requests that were ever started.
    pub(super) begun: AtomicU64,
    /// Number of the epoch that has confirmed a model by V2 metadata (`tells_v2`) or by another answer (`tells`).
    pub(super) tells_v2: AtomicU64,
    pub(super) tells: AtomicU64,
    pub(super) asking: super::asking::Asking,
    /// Whether it closes each connection after one answer.
    pub(super) closes: AtomicBool,
    /// Slots that its models share.
    pub(super) slots: Arc<SharedSlotPool>,
    /// Notifies the monitor that the last request in flight has ended.
    pub(super) idle: Notify,
    pub(super) reports: mpsc::UnboundedSender<Report>,
    pub(super) relay: super::relay::Connections,
    /// Its answers about models that it was not warmed for.
    pub(super) whereabouts: super::whereabouts::Whereabouts,
    /// Budget that counts its answers.
    pub answers: AnswerBudget,
}

/// One loaded model server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// Number of the epoch, counted from 1 per upstream.
    pub number: u64,
    /// Protocol of its control connection; the listener there identifies it.
    pub wire: Wire,
    /// Endpoint for HTTP/1.1; `None` if it has none.
    pub http: Option<Endpoint>,
    /// Endpoint for gRPC; that of HTTP/1.1 if it has no other.
    pub grpc: Endpoint,
    /// Identity of the server.
    pub identity: Identity,
}

impl Epoch {
    /// Returns the endpoint of its control connection, whose listener identifies it.
    pub fn asked_at(&self) -> &Endpoint {
        match (self.wire, &self.http) {
            (Wire::Rest, Some(http)) => http,
            _ => &self.grpc,
        }
    }
}

/// A report to the monitor. The number of reports is bounded by the slots and the requests in flight.
#[derive(Debug)]
pub enum Report {
    /// The connection of a slot has failed. The slot was dropped and is to be replaced if the epoch is still current.
    SlotFailed {
        /// Number of the epoch that the slot belonged to.
        epoch: u64,
        /// Model that the slot belonged to.
        model: Arc<str>,
    },
    /// Asks whether this epoch is still current. The monitor checks over a connection that is known to belong to it.
    Verify {
        /// Number of the epoch.
        epoch: u64,
        /// Channel for the answer.
        reply: oneshot::Sender<bool>,
    },
}

/// Why there is no connection to an epoch.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The connection attempt failed.
    #[error("cannot connect to {endpoint}: {source}")]
    Refused {
        /// Endpoint of the attempt.
        endpoint: Endpoint,
        /// The system's error.
        source: std::io::Error,
    },
    /// The model server has no HTTP/1.1 port.
    #[error("the model server speaks gRPC only")]
    NoHttp,
    /// Another process listens there now.
    #[error("the model server at {0} is not the one that was warmed")]
    Changed(Endpoint),
    /// The connection could not be verified in time.
    #[error("failed to verify in time that the model server at {0} is the one that was warmed")]
    Unverified(Endpoint),
}

/// Guard of a request in flight. While it exists, the upstream is not forgotten.
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

    /// Creates an upstream with an open barrier, for tests; also returns its epoch and the reports to its monitor.
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

    /// Returns its unique number, which differs also from servers that had the same name before.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Returns its name in the membership.
    pub fn name(&self) -> &str {
        &self.member.name
    }

    /// Returns its address in the membership.
    pub fn address(&self) -> &str {
        self.member.main_address()
    }

    /// Returns the address that it is probed at.
    pub fn probe_address(&self) -> &str {
        match self.wire() {
            Wire::Rest => self.member.main_address(),
            Wire::Grpc => self.member.grpc(),
        }
    }

    /// Returns the value of `Host` (over gRPC, of `:authority`) for the batcher's own requests.
    pub fn host(&self, wire: Wire) -> &HeaderValue {
        match wire {
            Wire::Rest => &self.host,
            Wire::Grpc => &self.grpc_host,
        }
    }

    /// Returns the protocol of its control connection; before that is known, a guess from the membership.
    pub fn wire(&self) -> Wire {
        let unknown = if self.member.is_grpc_only() { Wire::Grpc } else { Wire::Rest };
        self.epoch().map_or(unknown, |epoch| epoch.wire)
    }

    /// Returns its state.
    pub fn phase(&self) -> Phase {
        let number = self.phase.load(Ordering::SeqCst);
        Phase::ALL.into_iter().find(|phase| *phase as u8 == number).unwrap_or(Phase::Down)
    }

    /// Returns the epoch that was observed last.
    pub fn epoch(&self) -> Option<Arc<Epoch>> {
        self.epoch.load_full()
    }

    /// Returns what is known of it.
    pub fn discovered(&self) -> Arc<Discovered> {
        self.discovered.load_full()
    }

    /// Returns the epoch whose barrier is open; `None` if it is closed.
    pub fn open_epoch(&self) -> Option<Arc<Epoch>> {
        let open = self.open.load(Ordering::SeqCst);
        self.epoch.load_full().filter(|epoch| epoch.number == open)
    }

    /// Returns the number of batches and relayed requests in flight.
    pub fn inflight(&self) -> usize {
        self.inflight.load(Ordering::SeqCst)
    }

    /// Returns the number of requests that were ever started, from which a caller can see whether others came.
    pub fn begun(&self) -> u64 {
        self.begun.load(Ordering::SeqCst)
    }

    /// Returns whether connections to it are kept. False if it closes each one after an answer, perhaps just when the
    /// next request is on its way.
    pub fn keeps_connections(&self) -> bool {
        !self.closes.load(Ordering::Relaxed)
    }

    /// Returns the slots that its models share.
    pub fn slots(&self) -> &Arc<SharedSlotPool> {
        &self.slots
    }

    /// Returns whether the barrier of this epoch is open.
    pub fn is_open(&self, epoch: u64) -> bool {
        epoch != 0 && self.open.load(Ordering::SeqCst) == epoch
    }

    /// Starts a request to this epoch; `None` if its barrier is closed. The request is counted before the barrier is
    /// checked, so that a monitor which closes the barrier and then sees no request in flight can rely on it.
    pub fn begin(self: &Arc<Self>, epoch: u64) -> Option<InFlight> {
        self.inflight.fetch_add(1, Ordering::SeqCst);
        self.begun.fetch_add(1, Ordering::SeqCst);
        let guard = InFlight(Arc::clone(self));
        self.is_open(epoch).then_some(guard)
    }

    /// Sends a report to the monitor.
    pub fn report(&self, report: Report) {
        // If the monitor is gone, the upstream has drained and needs no reports.
        let _ = self.reports.send(report);
    }

    /// Opens a connection to this epoch. Verifies after connecting that the listener is still the one that was warmed.
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

    /// Verifies that the server that has just accepted a connection is this epoch.
    ///
    /// # Errors
    /// [`ConnectError::Changed`], [`ConnectError::Unverified`].
    pub async fn verify(&self, epoch: &Epoch) -> Result<(), ConnectError> {
        let same = if epoch.identity.listeners.is_empty() {
            let (reply, verified) = oneshot::channel();
            self.report(Report::Verify { epoch: epoch.number, reply });
            match timeout(CONNECT_PATIENCE, verified).await {
                // Dropped without an answer: the monitor has another epoch, or is gone.
                Ok(answer) => answer.unwrap_or(false),
                Err(_) => return Err(ConnectError::Unverified(epoch.asked_at().clone())),
            }
        } else {
            epoch.asked_at().listeners() == epoch.identity.listeners
        };
        if same { Ok(()) } else { Err(ConnectError::Changed(epoch.asked_at().clone())) }
    }
}

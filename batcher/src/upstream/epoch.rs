//! The warm barrier of one upstream, a state machine without I/O. It decides when an upstream counts as another server
//! (a new *epoch*), when it may take client requests, and when it may no longer.
//!
//! ```text
//!  connecting ──Observed──▶ warming ──Warmed──▶ ready
//!      ▲  │ ▲                 │ ▲                 │
//!      │  │ └──────Lost───────┴─│───────Lost──────┤
//!      │  └ConnectFailed×n▶ down └──Observed(new)─┘        any ──Removed──▶ draining
//! ```
//! The barrier is open only in `ready`. Every way back to `ready` leads through `warming`.

/// Identity of a loaded model server: if any field differs, it is another one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Identity {
    /// Numbers of the listener, for an upstream on this machine: see [`super::endpoint::Endpoint::listeners`].
    pub listeners: Vec<u64>,
    /// Number of the control connection, for an upstream on another machine: after a lost connection it is a new
    /// server.
    pub connection: u64,
    /// Digest of the metadata of the server and of the models that the settings name.
    pub metadata: u64,
    /// Digest of the settings that decide which batches it must have been warmed with.
    pub settings: u64,
}

/// State of an upstream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Phase {
    /// The server has not answered yet, or not since the connection was lost.
    Connecting = 0,
    /// The server answers; it is being warmed up.
    Warming = 1,
    /// The server is warm and takes client requests.
    Ready = 2,
    /// Removed from the membership: requests in flight finish, none start.
    Draining = 3,
    /// [`FAILURES_UNTIL_DOWN`] attempts to connect have failed in a row.
    Down = 4,
}

impl Phase {
    /// All phases, in the order of their numbers.
    pub const ALL: [Self; 5] = [Self::Connecting, Self::Warming, Self::Ready, Self::Draining, Self::Down];

    /// Returns the name in `/upstreams` and in the label `state`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Warming => "warming",
            Self::Ready => "ready",
            Self::Draining => "draining",
            Self::Down => "down",
        }
    }
}

/// Failed attempts in a row after which an upstream counts as down. It is still tried again.
pub const FAILURES_UNTIL_DOWN: u32 = 5;

/// What the monitor has observed about an upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EpochEvent {
    /// It answered; holds its identity.
    Observed(Identity),
    /// A connection attempt or a first health check failed.
    ConnectFailed,
    /// Warm-up of the epoch with this number is complete.
    Warmed(u64),
    /// The connection broke, no process listens any more, or the server says that it is not ready.
    Lost,
    /// The upstream is no longer a member.
    Removed,
}

/// What the monitor has to do after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// Nothing has changed.
    None,
    /// The barrier is closed; the new epoch with this number has to be warmed.
    Warm(u64),
    /// The barrier is open for the epoch with this number.
    Open(u64),
    /// The barrier is closed; connect again.
    Close,
    /// The barrier is closed for good.
    Drain,
}

/// The state machine of one upstream.
#[derive(Debug, Clone)]
pub struct Barrier {
    phase: Phase,
    epoch: u64,
    identity: Option<Identity>,
    failures: u32,
}

impl Default for Barrier {
    fn default() -> Self {
        Self { phase: Phase::Connecting, epoch: 0, identity: None, failures: 0 }
    }
}

impl Barrier {
    /// Returns the state of the upstream.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// Returns the number of the current (or last) epoch; 0 before the first.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Returns the number of attempts that failed in a row.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Applies one event; returns what the monitor has to do.
    pub fn on(&mut self, event: EpochEvent) -> Effect {
        use Phase::{Connecting, Down, Draining, Ready, Warming};
        match (self.phase, event) {
            (Draining, _) => Effect::None,
            (_, EpochEvent::Removed) => {
                self.phase = Draining;
                Effect::Drain
            }
            (Warming | Ready, EpochEvent::Observed(identity))
                if self.identity.as_ref() == Some(&identity) =>
            {
                Effect::None
            }
            (_, EpochEvent::Observed(identity)) => {
                self.identity = Some(identity);
                self.epoch += 1;
                self.failures = 0;
                self.phase = Warming;
                Effect::Warm(self.epoch)
            }
            (Warming, EpochEvent::Warmed(epoch)) if epoch == self.epoch => {
                self.phase = Ready;
                Effect::Open(epoch)
            }
            // The warm-up was of an earlier epoch.
            (_, EpochEvent::Warmed(_)) => Effect::None,
            (Connecting | Down, EpochEvent::ConnectFailed | EpochEvent::Lost) => {
                self.failures = self.failures.saturating_add(1);
                self.phase = if self.failures >= FAILURES_UNTIL_DOWN { Down } else { Connecting };
                Effect::None
            }
            (Warming | Ready, EpochEvent::ConnectFailed | EpochEvent::Lost) => {
                self.identity = None;
                self.phase = Connecting;
                Effect::Close
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(inode: u64) -> EpochEvent {
        EpochEvent::Observed(Identity { listeners: vec![inode], connection: 0, metadata: 7, settings: 0 })
    }

    #[test]
    fn only_a_completed_warm_up_opens_the_barrier() {
        let mut barrier = Barrier::default();
        assert_eq!(barrier.on(server(1)), Effect::Warm(1));
        assert_eq!(barrier.phase(), Phase::Warming);
        assert_eq!(barrier.on(server(1)), Effect::None, "the same server again is nothing new");
        assert_eq!(barrier.on(EpochEvent::Warmed(1)), Effect::Open(1));
        assert_eq!(barrier.phase(), Phase::Ready);
    }

    #[test]
    fn another_listener_on_the_port_closes_the_barrier_and_is_warmed_as_a_new_epoch() {
        let mut barrier = Barrier::default();
        barrier.on(server(1));
        barrier.on(EpochEvent::Warmed(1));
        assert_eq!(barrier.on(server(2)), Effect::Warm(2));
        assert_eq!(barrier.phase(), Phase::Warming);
    }

    #[test]
    fn a_warm_up_that_ends_after_the_server_changed_opens_nothing() {
        let mut barrier = Barrier::default();
        barrier.on(server(1));
        barrier.on(server(2));
        assert_eq!(barrier.on(EpochEvent::Warmed(1)), Effect::None);
        assert_eq!(barrier.phase(), Phase::Warming);
        assert_eq!(barrier.on(EpochEvent::Warmed(2)), Effect::Open(2));
    }

    #[test]
    fn the_same_listener_after_a_loss_is_a_new_epoch_all_the_same() {
        let mut barrier = Barrier::default();
        barrier.on(server(1));
        barrier.on(EpochEvent::Warmed(1));
        assert_eq!(barrier.on(EpochEvent::Lost), Effect::Close);
        assert_eq!(barrier.on(server(1)), Effect::Warm(2));
    }

    #[test]
    fn refusals_in_a_row_mean_down_and_an_answer_ends_it() {
        let mut barrier = Barrier::default();
        for _ in 0..FAILURES_UNTIL_DOWN {
            assert_ne!(barrier.phase(), Phase::Down);
            barrier.on(EpochEvent::ConnectFailed);
        }
        assert_eq!(barrier.phase(), Phase::Down);
        assert_eq!(barrier.on(server(3)), Effect::Warm(1));
    }

    #[test]
    fn nothing_opens_after_removal() {
        let mut barrier = Barrier::default();
        barrier.on(server(1));
        assert_eq!(barrier.on(EpochEvent::Removed), Effect::Drain);
        for event in [
            EpochEvent::Warmed(1),
            server(2),
            EpochEvent::Lost,
            EpochEvent::ConnectFailed,
            EpochEvent::Removed,
        ] {
            assert_eq!(barrier.on(event), Effect::None);
            assert_eq!(barrier.phase(), Phase::Draining);
        }
    }
}

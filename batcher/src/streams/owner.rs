//! The owner of one model's stream admission: the only task that knows which requests wait and how many are in flight.
//! It decides as `sluice_batch_policy` says.

use std::sync::Arc;
use std::time::Duration;

use sluice_batch_policy::{Arrival, Left, LimitBounds, StreamAdmission, StreamAdmissionSettings};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::handle::{AdmissionDecision, Permit, StreamEvent, StreamHandle, StreamRequest};
use super::metrics::View;
use crate::clock::Clock;
use crate::failure::Failure;
use crate::metrics::RejectReason;
use crate::retry_after::RetryAfter;
use crate::settings::{Live, Settings};
use crate::upstream::epoch::Phase;
use crate::upstream::members::Upstreams;

/// Longest time between two turns while requests wait, because the limit may have changed.
const LOOK: Duration = Duration::from_secs(1);

type Admission = StreamAdmission<oneshot::Sender<AdmissionDecision>>;

/// Starts the owner of an admission; it ends at `StreamEvent::Retire`.
pub(super) fn start(
    label: Arc<str>,
    upstreams: Arc<Upstreams>,
    settings: Live,
    clock: Clock,
) -> Arc<StreamHandle> {
    let (events, inbox) = mpsc::unbounded_channel();
    let handle = Arc::new(StreamHandle::new(label, clock, events));
    let admission = Admission::new(admission_settings(&settings.now()), clock.now_us());
    let owner = Owner { handle: Arc::clone(&handle), upstreams, settings, admission, latched: false };
    tokio::spawn(owner.run(inbox));
    handle
}

struct Owner {
    handle: Arc<StreamHandle>,
    upstreams: Arc<Upstreams>,
    settings: Live,
    admission: Admission,
    /// Whether a request was held for lack of a model server and no request has started since.
    latched: bool,
}

impl Owner {
    async fn run(mut self, mut inbox: mpsc::UnboundedReceiver<StreamEvent>) {
        let mut changed = self.upstreams.subscribe();
        self.count_servers();
        loop {
            let wake = self.wake();
            tokio::select! {
                event = inbox.recv() => {
                    let mut next = event;
                    while let Some(event) = next {
                        if matches!(event, StreamEvent::Retire) {
                            return;
                        }
                        self.on(event);
                        next = inbox.try_recv().ok();
                    }
                }
                _ = changed.changed() => self.count_servers(),
                () = tokio::time::sleep_until(wake) => {}
            }
            self.turn();
        }
    }

    /// Returns when the next turn is due if no message comes before.
    fn wake(&self) -> Instant {
        let look = Instant::now() + LOOK;
        match self.admission.next_expiry_us() {
            Some(at_us) => look.min(self.handle.clock.instant(at_us)),
            // No request waits, so only a message makes a turn necessary.
            None => Instant::now() + Duration::from_secs(3600),
        }
    }

    fn on(&mut self, event: StreamEvent) {
        let now_us = self.handle.clock.now_us();
        match event {
            StreamEvent::Arrived(knock) => {
                self.arrived(now_us, knock);
                self.turn();
            }
            StreamEvent::Left => self.admission.retain(now_us, |reply| !reply.is_closed()),
            StreamEvent::FirstToken(seconds) => self.admission.first_token(seconds),
            StreamEvent::Ended { weight, seconds } => self.admission.ended(now_us, weight, seconds),
            StreamEvent::Refresh { has_queue, done } => {
                self.set_gauges(now_us, has_queue);
                let _ = done.send(());
            }
            StreamEvent::Retire => {}
        }
    }

    fn arrived(&mut self, now_us: u64, knock: StreamRequest) {
        let StreamRequest { class, deadline_us, tokens, reply } = knock;
        match self.admission.arrive(now_us, class, deadline_us, tokens, reply) {
            Arrival::Waits => {}
            Arrival::Full { payload, retry_after_us } => {
                let message = format!(
                    "{} requests wait for this model already (maxWaitingStreams)",
                    self.settings.now().streams.max_waiting_streams
                );
                refuse(payload, 429, RejectReason::QueueFull, message, retry_after_us);
            }
            Arrival::TooLate { payload, retry_after_us } => {
                let message = "it would start after its deadline: the model server is saturated";
                refuse(payload, 429, RejectReason::TooLate, message, retry_after_us);
            }
        }
    }

    /// Starts and rejects requests, as far as possible now.
    fn turn(&mut self) {
        let now_us = self.handle.clock.now_us();
        self.admission.set(admission_settings(&self.settings.now()));
        self.admission.work(self.handle.take_work() as f64);
        self.admission.turn(now_us);
        while let Some(left) = self.admission.next(now_us) {
            match left {
                Left::Starts { payload, weight, waited_us } => {
                    self.latched = false;
                    self.handle.metrics.queue_seconds.record(waited_us as f64 / 1e6);
                    let permit = Permit::new(Arc::clone(&self.handle), weight, now_us);
                    // If the client has left meanwhile, the permit is dropped and comes back as an ended stream.
                    let _ = payload.send(AdmissionDecision::Start(permit));
                }
                Left::Expired { payload, held: true, .. } => {
                    let message = format!(
                        "no model server became ready within {} ms",
                        self.settings.now().holding.hold_ms
                    );
                    refuse(payload, 503, RejectReason::HoldExpired, message, 1_000_000);
                }
                Left::Expired { payload, held: false, retry_after_us } => {
                    let message = "it did not start before its deadline: the model server is saturated";
                    refuse(payload, 429, RejectReason::Expired, message, retry_after_us);
                }
            }
        }
        self.latched |= self.admission.servers() == 0 && self.admission.waiting() > 0;
    }

    fn count_servers(&mut self) {
        let servers = self.upstreams.all().iter().filter(|upstream| upstream.phase() == Phase::Ready).count();
        self.admission.set_servers(self.handle.clock.now_us(), u32::try_from(servers).unwrap_or(u32::MAX));
    }

    fn set_gauges(&self, now_us: u64, has_queue: bool) {
        self.handle.metrics.set_gauges(&View {
            in_flight: self.admission.running(),
            waiting: self.admission.waiting(),
            oldest_wait_us: self.admission.oldest_wait_us(now_us),
            predicted_wait_us: self.admission.predicted_wait_us(u8::MAX),
            limit: self.admission.limit(),
            latched: self.latched,
            has_queue,
        });
    }
}

fn refuse(
    reply: oneshot::Sender<AdmissionDecision>,
    status: u16,
    reason: RejectReason,
    message: impl Into<String>,
    retry_after_us: u64,
) {
    let retry_after = RetryAfter::wait_us(retry_after_us);
    let _ = reply.send(AdmissionDecision::Refused(Failure::refused(status, reason, message, retry_after)));
}

fn admission_settings(settings: &Settings) -> StreamAdmissionSettings {
    StreamAdmissionSettings {
        bounds: LimitBounds {
            least: f64::from(settings.streams.min_streams),
            most: f64::from(settings.streams.max_streams),
            start: f64::from(settings.streams.initial_streams),
        },
        most_waiting: settings.streams.max_waiting_streams,
        hold_us: settings.holding.hold_ms.saturating_mul(1000),
    }
}

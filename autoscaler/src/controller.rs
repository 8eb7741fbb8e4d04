//! Controls one InferenceAutoscaler by a task of its own: measure, count free slices, decide, log, act, report.
//!
//! The task owns everything that one decision hands to the next: history, policy state, status. A restart loses the
//! history and the policy state; a controller without them does not scale down at once.

use std::sync::Arc;
use std::time::Duration;

use sluice_config::api::InferenceAutoscaler;
use sluice_scaling_policy::{
    ConditionType, Current, Decision, DecisionRecord, Findings, Input, Standing, State, Windows,
};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::announcements::{Announcement, Announcements, Announcer, rescaled};
use crate::capacity::Capacity;
use crate::clock::{Clock, timestamp};
use crate::contest::Contest;
use crate::decisions::DecisionLog;
use crate::metrics::Metrics;
use crate::platform::{Platform, PlatformError, Replicas, ScaleTarget, name_of, target_of};
use crate::signals::{Scraper, SecondSource};
use crate::spec::policy_spec;
use crate::status::{Counts, StatusTracker};
use crate::status_store::StatusStore;

mod measurement;
#[cfg(test)]
mod tests;

use measurement::Measurement;

/// Periods of a controller.
#[derive(Debug, Clone)]
pub struct Timing {
    /// Time between two decisions.
    pub tick: Duration,
    /// Windows over the signals.
    pub windows: Windows,
    /// Window over which latency is measured, milliseconds.
    pub latency_window_ms: u64,
}

/// Everything that a controller works with; shared by all controllers.
pub(crate) struct Context {
    /// Platform of the replicas.
    pub platform: Arc<dyn Platform>,
    /// Source of the batchers' own pages.
    pub scraper: Arc<dyn Scraper>,
    /// Source of readings of batchers that cannot be scraped; `None` = there is no such source.
    pub second: Option<Arc<dyn SecondSource>>,
    /// Store of the objects' status.
    pub status: Arc<dyn StatusStore>,
    /// Publisher of Kubernetes Events.
    pub events: Arc<dyn Announcer>,
    /// Clock of all decisions.
    pub clock: Clock,
}

/// Controller of one target.
pub(crate) struct Controller {
    object: watch::Receiver<Arc<InferenceAutoscaler>>,
    context: Arc<Context>,
    timing: Timing,
    log: DecisionLog,
    target: ScaleTarget,
    generation: i64,
    measurement: Measurement,
    state: State,
    contest: Contest,
    status: StatusTracker,
    announcements: Announcements,
    metrics: Metrics,
}

impl Controller {
    /// Creates the controller of an object, which may change while it runs; its name may not.
    pub(crate) async fn new(
        object: watch::Receiver<Arc<InferenceAutoscaler>>,
        context: Arc<Context>,
        timing: Timing,
        log: DecisionLog,
    ) -> Self {
        let (namespace, name, target, api_generation) = {
            let object = object.borrow();
            let (namespace, name) = name_of(&object);
            (namespace, name, target_of(&object), object.metadata.generation)
        };
        let before = context.status.read(&namespace, &name).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "Failed to read the status from before the restart; starting with an empty one.");
            None
        });
        let state = before.as_ref().map(|before| left_by(before, api_generation)).unwrap_or_default();
        let (status, counted) = match before {
            Some(before) => {
                let generation = before.metadata.generation.unwrap_or(1);
                let changed = before.spec != object.borrow().spec;
                let status = StatusTracker::resume(before.status.unwrap_or_default());
                (status, generation + i64::from(changed))
            }
            None => (StatusTracker::default(), 1),
        };
        // An API server counts generations itself.
        let generation = api_generation.unwrap_or(counted);
        let announcements = Announcements::resume(&status.status().conditions);
        let measurement = Measurement::new(&timing);
        let metrics = Metrics::new(&format!("{namespace}/{name}"));
        Self {
            object,
            context,
            timing,
            log,
            target,
            generation,
            measurement,
            state,
            contest: Contest::default(),
            status,
            announcements,
            metrics,
        }
    }

    /// Runs a tick per period until `stop`, then writes a last status.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut ticks = interval(self.timing.tick);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = stop.cancelled() => break,
            }
            let started = Instant::now();
            self.tick().await;
            self.metrics.tick.record(started.elapsed());
        }
        let message = "The autoscaler was stopped; nothing is scaled until it runs again.";
        let at = timestamp(self.context.clock.now_ms());
        self.status.failed(at, Some(self.generation), "Stopped", message);
        let object = Arc::clone(&self.object.borrow());
        self.write_status(&object).await;
    }

    async fn tick(&mut self) {
        if self.object.has_changed().unwrap_or(false) {
            let object = self.object.borrow_and_update().clone();
            self.generation = object.metadata.generation.unwrap_or(self.generation + 1);
            let target = target_of(&object);
            if target != self.target {
                self.target = target;
                // What is remembered of the replicas is about another target.
                self.contest = Contest::default();
                (self.state.replicas_left, self.state.is_off) = (None, false);
            }
            tracing::info!(name = %self.target, generation = self.generation, "The object changed.");
        }
        let object = Arc::clone(&self.object.borrow());
        let at_ms = self.context.clock.now_ms();
        let replicas = match self.context.platform.replicas(&self.target, object.spec.gateway.as_ref()).await
        {
            Ok(replicas) => replicas,
            Err(error) => return self.report_failure(&object, at_ms, &error).await,
        };
        self.measurement.measure(&self.context, &self.target, &object, &replicas).await;
        let capacity = match self.context.platform.capacity(&self.target).await {
            Ok(view) => Capacity::of(&view),
            Err(PlatformError::ClaimUnknown(why)) => {
                Capacity { first_replica_tells: true, ..Capacity::unknown(why) }
            }
            Err(error) => Capacity::unknown(error.to_string()),
        };
        if capacity.is_published {
            self.metrics.free(&capacity.profile, capacity.free.slices);
        }
        let mut record = self.decide(&object, &replicas, capacity);
        // This is only for readers of the status: the log has the decision as it was made.
        self.measurement.name_unread(&mut record.decision);
        let now_ms = record.input.now_ms;
        self.state = record.decision.state.clone();
        let asked = self.act(&object, &record.decision, replicas.asked, now_ms).await;
        self.report(&object, &record, &replicas, asked).await;
    }

    fn decide(
        &mut self,
        object: &InferenceAutoscaler,
        replicas: &Replicas,
        capacity: Capacity,
    ) -> DecisionRecord {
        let spec = policy_spec(&object.spec, replicas.startup_ms, capacity.profile, &self.timing.windows);
        let now_ms = self.context.clock.now_ms();
        if replicas.findings.others_scale {
            self.contest.found(now_ms, replicas.asked);
        }
        let known = replicas.findings.clone();
        let findings = Findings {
            hold: known.hold.or_else(|| self.contest.hold(now_ms)),
            first_replica_tells: capacity.first_replica_tells,
            ..known
        };
        let input = Input {
            now_ms,
            current: Current { replicas: replicas.asked, ready: replicas.ready },
            signals: self.measurement.signals(now_ms, spec.objective.quantile),
            free: capacity.free,
            standing: Standing { without_slice: capacity.without_slice, ..replicas.standing.clone() },
            findings,
            state: std::mem::take(&mut self.state),
            spec,
        };
        let (namespace, name) = name_of(object);
        let record = DecisionRecord::new(format!("{namespace}/{name}"), input);
        let written = record.to_line().map_err(std::io::Error::other).and_then(|line| self.log.append(&line));
        self.tell_unlogged(object, now_ms, written.err());
        record
    }

    /// Publishes an event when writing the decision log begins to fail. Decisions go on without it.
    fn tell_unlogged(&mut self, object: &InferenceAutoscaler, now_ms: u64, error: Option<std::io::Error>) {
        let message = error.map(|error| {
            let file = self.log.path();
            let file = file.file_name().unwrap_or_default().to_string_lossy();
            format!(
                "The decision log {file} cannot be written: {error}. Decisions go on and the status tells the last \
                 ones, but replay lacks them; make room in the autoscaler's stateDir."
            )
        });
        let told = self.announcements.unlogged(now_ms, message.as_deref());
        if let Some(told) = &told {
            tracing::warn!(name = %self.target, path = %self.log.path().display(), "{}", told.message);
        }
        self.announce(object, told);
    }

    /// Applies the decision. Returns the replicas asked for now.
    async fn act(
        &mut self,
        object: &InferenceAutoscaler,
        decision: &Decision,
        from: u32,
        now_ms: u64,
    ) -> u32 {
        if !decision.apply || decision.desired == from {
            return from;
        }
        match self.context.platform.set_replicas(&self.target, decision.desired).await {
            Ok(asked) => {
                self.state.scaled(now_ms, from, asked);
                self.contest.wrote(asked);
                tracing::info!(
                    name = %self.target, from, to = asked, wanted = decision.desired,
                    reason = ?decision.reason, message = decision.message, "Scaled the target."
                );
                if asked != from {
                    self.context.events.announce(object, rescaled(decision, from, asked));
                }
                asked
            }
            Err(error) => {
                self.contest.unsure();
                tracing::warn!(name = %self.target, from, to = decision.desired, %error, "Failed to scale the target; the next tick tries again.");
                from
            }
        }
    }

    /// Reports a decision: metrics, events, status.
    async fn report(
        &mut self,
        object: &InferenceAutoscaler,
        record: &DecisionRecord,
        replicas: &Replicas,
        asked: u32,
    ) {
        let decision = &record.decision;
        // In a dry run the recommendation is what the reader wants to see.
        let recommended = if object.spec.dry_run { decision.desired } else { asked };
        let fresh = holds(decision, ConditionType::MetricsFresh).unwrap_or(false);
        self.metrics.decided(decision.reason);
        self.metrics.desired.set(f64::from(recommended));
        self.metrics.current.set(f64::from(replicas.asked + replicas.terminating));
        self.metrics.ready.set(f64::from(replicas.ready));
        self.metrics.metrics_fresh.set(f64::from(u8::from(fresh)));
        let is_limited = holds(decision, ConditionType::CapacityLimited).unwrap_or(false);
        self.metrics.capacity_limited.set(f64::from(u8::from(is_limited)));
        let counts = Counts {
            from: replicas.asked,
            to: recommended,
            current: replicas.asked - replicas.absent + replicas.terminating,
            ready: replicas.ready,
        };
        if record.input.state.since_ms.is_none() && !decision.apply {
            // A rate needs two samples, so the first decision has no demand yet. A new leader must not report that its
            // predecessor's metrics are lost.
            return;
        }
        let told = self.announcements.decided(record.input.now_ms, decision);
        self.announce(object, told);
        let at = timestamp(record.input.now_ms);
        if self.status.decided(at, Some(self.generation), record, counts) {
            self.write_status(object).await;
        }
    }

    /// Reports that no decision could be made, because the replicas are not known. They stay as they are.
    async fn report_failure(&mut self, object: &InferenceAutoscaler, at_ms: u64, error: &PlatformError) {
        let reason = match error {
            PlatformError::UnknownTarget(_) => "TargetNotFound",
            PlatformError::Unscalable(_) | PlatformError::ClaimUnknown(_) => "TargetNotScalable",
            PlatformError::Unavailable(_) => "PlatformUnavailable",
        };
        let told = self.announcements.failed(at_ms, reason, &error.to_string());
        // It may last, so only its begin is worth a warning.
        if told.is_some() {
            tracing::warn!(name = %self.target, %error, "No decision: failed to read the target's replicas.");
        } else {
            tracing::debug!(name = %self.target, %error, "No decision: failed to read the target's replicas.");
        }
        self.announce(object, told);
        if self.status.failed(timestamp(at_ms), Some(self.generation), reason, &error.to_string()) {
            self.write_status(object).await;
        }
    }

    async fn write_status(&mut self, object: &InferenceAutoscaler) {
        let mut object = object.clone();
        object.metadata.namespace = Some(name_of(&object).0);
        object.metadata.generation = Some(self.generation);
        object.status = Some(self.status.status().clone());
        if let Err(error) = self.context.status.write(object).await {
            tracing::warn!(%error, name = %self.target, "Failed to write the status.");
            self.status.not_written();
        }
    }

    fn announce(&self, object: &InferenceAutoscaler, told: impl IntoIterator<Item = Announcement>) {
        told.into_iter().for_each(|one| self.context.events.announce(object, one));
    }
}

/// Restores from the status the replicas that a previous process left, where the status is of this specification.
/// Without them zero replicas would not be recognised as set by others.
fn left_by(before: &InferenceAutoscaler, generation: Option<i64>) -> State {
    let Some(status) = &before.status else { return State::default() };
    // In a dry run the status has the recommendation, not the replicas.
    if before.spec.dry_run || generation.is_some() && status.observed_generation != generation {
        return State::default();
    }
    let is_off = status.conditions.iter().any(|condition| condition.reason == "ScalingDisabled");
    State { replicas_left: Some(status.desired_replicas), is_off, ..State::default() }
}

fn holds(decision: &Decision, condition: ConditionType) -> Option<bool> {
    decision.conditions.iter().find(|known| known.r#type == condition).map(|known| known.status)
}

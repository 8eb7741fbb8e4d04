//! One task per InferenceAutoscaler: scrape, look at the platform, decide, write down, act.
//!
//! The task owns everything that one decision hands to the next (history, policy state, status). Nothing
//! of it survives a restart: a fresh state knows nothing, and who knows nothing does not scale down.

use std::sync::Arc;
use std::time::Duration;

use sluice_config::api::InferenceAutoscaler;
use sluice_scaling_policy::{
    ConditionType, Current, Decision, DecisionRecord, Findings, Input, Standing, State, Windows,
};
use std::collections::BTreeMap;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::announcements::{Announcement, Announcements, Announcer, rescaled};
use crate::capacity::Capacity;
use crate::clock::{Clock, timestamp};
use crate::contest::Contest;
use crate::decisions::DecisionLog;
use crate::metrics::Metrics;
use crate::platform::{Batcher, Platform, PlatformError, Replicas, ScaleTarget, Target};
use crate::signals::{Scraper, SecondSource, UnreadBatchers};
use crate::spec::policy_spec;
use crate::status::{Counts, StatusTracker};
use crate::status_store::StatusStore;
use sluice_scaling_policy::signals::{Choice, DatedReading, History, Limits, Presence, Reading, choose};

#[cfg(test)]
mod tests;

/// How the second source is called among the batchers.
const SECOND_SOURCE: &str = "the second source";

/// How a controller measures.
#[derive(Debug, Clone)]
pub struct Timing {
    /// Time between two decisions.
    pub tick: Duration,
    /// Windows over the signals.
    pub windows: Windows,
    /// Latency is measured over the requests of this time, milliseconds.
    pub latency_window_ms: u64,
}

/// What a controller works with.
pub(crate) struct Context {
    /// Where replicas live.
    pub platform: Arc<dyn Platform>,
    /// Where metrics come from.
    pub scraper: Arc<dyn Scraper>,
    /// Where they come from when batchers cannot be scraped.
    pub second: Option<Arc<dyn SecondSource>>,
    /// Where the status goes.
    pub status: Arc<dyn StatusStore>,
    /// Where events go.
    pub events: Arc<dyn Announcer>,
    /// Time.
    pub clock: Clock,
}

/// Controls one target.
pub(crate) struct Controller {
    object: watch::Receiver<Arc<InferenceAutoscaler>>,
    context: Arc<Context>,
    timing: Timing,
    log: DecisionLog,
    target: ScaleTarget,
    generation: i64,
    history: History,
    state: State,
    contest: Contest,
    status: StatusTracker,
    announcements: Announcements,
    metrics: Metrics,
    unread: UnreadBatchers,
}

impl Controller {
    /// A controller for the object, which may change while it runs; its name may not.
    pub(crate) async fn new(
        object: watch::Receiver<Arc<InferenceAutoscaler>>,
        context: Arc<Context>,
        timing: Timing,
        log: DecisionLog,
    ) -> Self {
        let (namespace, name, target, told) = {
            let object = object.borrow();
            let (namespace, name) = name_of(&object);
            (namespace, name, target_of(&object), object.metadata.generation)
        };
        let before = context.status.read(&namespace, &name).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "The status before the restart cannot be read; it begins anew.");
            None
        });
        let state = before.as_ref().map(|before| left_by(before, told)).unwrap_or_default();
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
        let generation = told.unwrap_or(counted);
        let announcements = Announcements::resume(&status.status().conditions);
        let windows = &timing.windows;
        let longest = windows.demand_ms.max(windows.burst_ms).max(windows.trend_ms);
        let limits = Limits {
            keep_ms: longest + windows.stale_ms,
            latency_window_ms: timing.latency_window_ms,
            stale_ms: windows.stale_ms,
        };
        let metrics = Metrics::new(&format!("{namespace}/{name}"));
        Self {
            object,
            context,
            timing,
            log,
            target,
            generation,
            history: History::new(limits),
            state,
            contest: Contest::default(),
            status,
            announcements,
            metrics,
            unread: UnreadBatchers::default(),
        }
    }

    /// Ticks until `stop`.
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
                // What was left, and by whom, is said of another target.
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
            Err(error) => return self.cannot(&object, at_ms, &error).await,
        };
        self.measure(&object, &replicas).await;
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
        // For its readers alone: the log has what was decided from, which the words do not change.
        self.name_unread(&mut record.decision);
        let now_ms = record.input.now_ms;
        self.state = record.decision.state.clone();
        let asked = self.act(&object, &record.decision, replicas.asked, now_ms).await;
        self.tell(&object, &record, &replicas, asked).await;
    }

    /// Scrapes every batcher at once, and asks the second source for those that could not be scraped. What
    /// neither knows adds nothing, and so becomes stale.
    async fn measure(&mut self, object: &InferenceAutoscaler, replicas: &Replicas) {
        let present: Vec<Presence<'_>> = replicas.batchers.iter().map(Batcher::presence).collect();
        self.history.present(self.context.clock.now_ms(), &present);
        let urls: Vec<String> = replicas.batchers.iter().map(|batcher| batcher.metrics_url.clone()).collect();
        let pages = self.context.scraper.scrape(&urls, &object.spec.model).await;
        let at_ms = self.context.clock.now_ms();
        self.unread.begin(|known| {
            known == SECOND_SOURCE || replicas.batchers.iter().any(|batcher| batcher.name == known)
        });
        let mut own: Vec<Option<Reading>> = Vec::with_capacity(pages.len());
        let mut unread = Vec::new();
        for (batcher, page) in replicas.batchers.iter().zip(pages) {
            if let Err(error) = &page
                && self.history.awaits(&batcher.name)
            {
                unread.push(batcher.name.clone());
                self.tell_unread(at_ms, &batcher.name, &error.to_string());
            }
            own.push(page.ok());
        }
        let mut second = self.ask_second(object, &unread).await;
        let stale_ms = self.timing.windows.stale_ms;
        for (batcher, own) in replicas.batchers.iter().zip(own) {
            match choose(own, second.remove(&batcher.name), at_ms, stale_ms) {
                Choice::Own(reading) => self.history.record(&batcher.name, at_ms, false, reading),
                Choice::Second(DatedReading { at_ms, reading }) => {
                    self.history.record(&batcher.name, at_ms, true, reading);
                }
                Choice::Nothing(why) => {
                    tracing::debug!(name = %self.target, batcher = batcher.name, why, "Nothing is known.");
                }
            }
        }
    }

    /// What the second source knows of these batchers.
    async fn ask_second(
        &mut self,
        object: &InferenceAutoscaler,
        batchers: &[String],
    ) -> BTreeMap<String, DatedReading> {
        let Some(second) = self.context.second.clone().filter(|_| !batchers.is_empty()) else {
            return BTreeMap::new();
        };
        let within = Duration::from_millis(self.timing.windows.stale_ms);
        let model = &object.spec.model;
        match second.readings(&self.target.at.namespace, batchers, model, within).await {
            Ok(readings) => readings,
            Err(error) => {
                self.tell_unread(self.context.clock.now_ms(), SECOND_SOURCE, &error.to_string());
                BTreeMap::new()
            }
        }
    }

    /// Once per outage is enough for a warning; the condition tells that it lasts.
    fn tell_unread(&mut self, now_ms: u64, batcher: &str, error: &str) {
        if self.unread.failed(now_ms, batcher, error) {
            tracing::warn!(name = %self.target, batcher, %error, "A scrape failed.");
        } else {
            tracing::debug!(name = %self.target, batcher, %error, "A scrape failed.");
        }
    }

    /// Says in the condition which batcher could not be read and why, where that had a consequence.
    fn name_unread(&self, decision: &mut Decision) {
        let Some(sentence) = self.unread.sentence() else { return };
        let fresh = decision.conditions.iter_mut().find(|one| one.r#type == ConditionType::MetricsFresh);
        if let Some(fresh) = fresh.filter(|fresh| !fresh.status || fresh.reason == "SecondSource") {
            fresh.message = format!("{} {sentence}", fresh.message);
        }
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
            signals: self.history.signals(now_ms, spec.objective.quantile),
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

    /// A log that cannot be written stops no decision. It is told when that begins.
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

    /// Applies the decision. Returns what is asked for now.
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
                    reason = ?decision.reason, message = decision.message, "Replicas changed."
                );
                if asked != from {
                    self.context.events.announce(object, rescaled(decision, from, asked));
                }
                asked
            }
            Err(error) => {
                self.contest.unsure();
                tracing::warn!(name = %self.target, from, to = decision.desired, %error, "Replicas could not be changed; the next tick tries again.");
                from
            }
        }
    }

    async fn tell(
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
            // A rate needs two samples: the first decision knows nothing yet, and a new leader must not
            // seem to have lost what its predecessor knew.
            return;
        }
        let told = self.announcements.decided(record.input.now_ms, decision);
        self.announce(object, told);
        let at = timestamp(record.input.now_ms);
        if self.status.decided(at, Some(self.generation), record, counts) {
            self.write_status(object).await;
        }
    }

    /// No decision: the platform could not even tell the replicas. They stay as they are.
    async fn cannot(&mut self, object: &InferenceAutoscaler, at_ms: u64, error: &PlatformError) {
        let reason = match error {
            PlatformError::UnknownTarget(_) => "TargetNotFound",
            PlatformError::Unscalable(_) | PlatformError::ClaimUnknown(_) => "TargetNotScalable",
            PlatformError::Unavailable(_) => "PlatformUnavailable",
        };
        let told = self.announcements.failed(at_ms, reason, &error.to_string());
        // It may last: once is enough for a warning.
        if told.is_some() {
            tracing::warn!(name = %self.target, %error, "No decision: the target's replicas are not known.");
        } else {
            tracing::debug!(name = %self.target, %error, "No decision: the target's replicas are not known.");
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
            tracing::warn!(%error, name = %self.target, "The status could not be written.");
            self.status.not_written();
        }
    }

    fn announce(&self, object: &InferenceAutoscaler, told: impl IntoIterator<Item = Announcement>) {
        told.into_iter().for_each(|one| self.context.events.announce(object, one));
    }
}

/// What the object scales.
pub(crate) fn target_of(object: &InferenceAutoscaler) -> ScaleTarget {
    let wanted = &object.spec.scale_target_ref;
    let at = Target { namespace: name_of(object).0, name: wanted.name.clone() };
    ScaleTarget { at, api_version: wanted.api_version.clone(), kind: wanted.kind.clone() }
}

/// Namespace (`default` when absent) and name.
pub(crate) fn name_of(object: &InferenceAutoscaler) -> (String, String) {
    let namespace = object.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
    (namespace, object.metadata.name.clone().unwrap_or_default())
}

/// What the status says of the replicas that another process left, where that is of this specification: zero
/// that is found now may be somebody's wish.
fn left_by(before: &InferenceAutoscaler, generation: Option<i64>) -> State {
    let Some(status) = &before.status else { return State::default() };
    // In a dry run the status has the recommendation.
    if before.spec.dry_run || generation.is_some() && status.observed_generation != generation {
        return State::default();
    }
    let is_off = status.conditions.iter().any(|condition| condition.reason == "ScalingDisabled");
    State { replicas_left: Some(status.desired_replicas), is_off, ..State::default() }
}

fn holds(decision: &Decision, condition: ConditionType) -> Option<bool> {
    decision.conditions.iter().find(|known| known.r#type == condition).map(|known| known.status)
}

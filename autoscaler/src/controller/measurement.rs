//! Measures one target: scrapes its batchers, asks the second source for those that cannot be scraped, and keeps the
//! history of readings.

use std::collections::BTreeMap;
use std::time::Duration;

use sluice_config::api::InferenceAutoscaler;
use sluice_scaling_policy::signals::{Choice, DatedReading, History, Limits, Presence, Reading, choose};
use sluice_scaling_policy::{ConditionType, Decision, Signals};

use super::{Context, Timing};
use crate::platform::{Batcher, Replicas, ScaleTarget};
use crate::signals::UnreadBatchers;

/// Name of the second source among the batchers that could not be read.
const SECOND_SOURCE: &str = "the second source";

/// Measurements of one target.
pub(super) struct Measurement {
    history: History,
    unread: UnreadBatchers,
    /// Age beyond which a reading does not count, milliseconds.
    stale_ms: u64,
}

impl Measurement {
    /// Creates an empty measurement: without readings nothing scales down.
    pub(super) fn new(timing: &Timing) -> Self {
        let windows = &timing.windows;
        let longest = windows.demand_ms.max(windows.burst_ms).max(windows.trend_ms);
        let limits = Limits {
            keep_ms: longest + windows.stale_ms,
            latency_window_ms: timing.latency_window_ms,
            stale_ms: windows.stale_ms,
        };
        Self { history: History::new(limits), unread: UnreadBatchers::default(), stale_ms: windows.stale_ms }
    }

    /// Scrapes every batcher at once, and asks the second source for those that could not be scraped. A batcher without
    /// a reading adds nothing, and so becomes stale.
    pub(super) async fn measure(
        &mut self,
        context: &Context,
        target: &ScaleTarget,
        object: &InferenceAutoscaler,
        replicas: &Replicas,
    ) {
        let present: Vec<Presence<'_>> = replicas.batchers.iter().map(Batcher::presence).collect();
        self.history.present(context.clock.now_ms(), &present);
        let urls: Vec<String> = replicas.batchers.iter().map(|batcher| batcher.metrics_url.clone()).collect();
        let pages = context.scraper.scrape(&urls, &object.spec.model).await;
        let at_ms = context.clock.now_ms();
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
                self.warn_unread(at_ms, target, &batcher.name, &error.to_string());
            }
            own.push(page.ok());
        }
        let mut second = self.ask_second_source(context, target, object, &unread).await;
        for (batcher, own) in replicas.batchers.iter().zip(own) {
            match choose(own, second.remove(&batcher.name), at_ms, self.stale_ms) {
                Choice::Own(reading) => self.history.record(&batcher.name, at_ms, false, reading),
                Choice::Second(DatedReading { at_ms, reading }) => {
                    self.history.record(&batcher.name, at_ms, true, reading);
                }
                Choice::Nothing(why) => {
                    tracing::debug!(name = %target, batcher = batcher.name, why, "No reading from this batcher.");
                }
            }
        }
    }

    /// Returns the second source's readings of these batchers.
    async fn ask_second_source(
        &mut self,
        context: &Context,
        target: &ScaleTarget,
        object: &InferenceAutoscaler,
        batchers: &[String],
    ) -> BTreeMap<String, DatedReading> {
        let Some(second) = context.second.as_ref().filter(|_| !batchers.is_empty()) else {
            return BTreeMap::new();
        };
        let within = Duration::from_millis(self.stale_ms);
        match second.readings(&target.at.namespace, batchers, &object.spec.model, within).await {
            Ok(readings) => readings,
            Err(error) => {
                self.warn_unread(context.clock.now_ms(), target, SECOND_SOURCE, &error.to_string());
                BTreeMap::new()
            }
        }
    }

    /// Logs a failed scrape. One warning per outage and minute is enough, because the condition shows that it lasts.
    fn warn_unread(&mut self, now_ms: u64, target: &ScaleTarget, batcher: &str, error: &str) {
        if self.unread.failed(now_ms, batcher, error) {
            tracing::warn!(name = %target, batcher, %error, "Failed to read a batcher's metrics.");
        } else {
            tracing::debug!(name = %target, batcher, %error, "Failed to read a batcher's metrics.");
        }
    }

    /// Returns the signals at `now_ms`; `quantile` (0 to 1) is the objective's.
    pub(super) fn signals(&self, now_ms: u64, quantile: f64) -> Signals {
        self.history.signals(now_ms, quantile)
    }

    /// Adds to the condition `MetricsFresh` which batcher could not be read and why, where that had a consequence.
    pub(super) fn name_unread(&self, decision: &mut Decision) {
        let Some(sentence) = self.unread.sentence() else { return };
        let fresh = decision.conditions.iter_mut().find(|one| one.r#type == ConditionType::MetricsFresh);
        if let Some(fresh) = fresh.filter(|fresh| !fresh.status || fresh.reason == "SecondSource") {
            fresh.message = format!("{} {sentence}", fresh.message);
        }
    }
}

//! Drives all arms with the same schedule at the same time, takes a sample of each arm every second, and kills programs
//! on request.

use std::time::Duration;

use anyhow::anyhow;
use futures::future::try_join_all;
use sluice_config::metric_names::{autoscaler, batcher, driver};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::DemoError;
use super::arm::{Arm, NAME, Replicas};
use super::kill::{Kill, Victim};
use super::live::Live;
use super::outcome::{LoadOutcome, Sample};
use super::settings::{DemoSettings, TRACE};
use super::stack::{Run, Stack};
use crate::admin_port::Metrics;
use crate::arrivals::{Spacing, parse_trace};
use crate::marked::{self, signal};
use crate::plan::{Load, Payload, Plan};
use crate::record::Interval;
use crate::report::Report;
use crate::run;

/// Time limit of a request, as a multiple of the objective.
const TIMEOUT_OBJECTIVES: u32 = 20;
/// Recorded length of the trace, seconds; see its first lines.
const TRACE_SECONDS: f64 = 86_400.0;

/// Result of the load of one arm.
#[derive(Debug, Clone, Default)]
pub(crate) struct Driven {
    /// Totals over the whole trace.
    pub load: LoadOutcome,
    /// Samples, one per second.
    pub samples: Vec<Sample>,
}

/// Runs the trace on every arm.
///
/// # Errors
/// When a generator cannot start or cannot reach its gateway, or `stop` was cancelled.
pub(crate) async fn all(
    run: &Run,
    arms: &[Arm],
    stacks: &[Stack],
    settings: &DemoSettings,
    kills: &[Kill],
    stop: &CancellationToken,
) -> Result<Vec<Driven>, DemoError> {
    let (seen, views) = mpsc::channel(64);
    let driving = try_join_all(arms.iter().zip(stacks).enumerate().map(|(index, (arm, stack))| {
        let kills = if arm.replicas == Replicas::Autoscaled { kills } else { &[] };
        one(run, stack, settings, kills, stop, index, seen.clone())
    }));
    drop(seen);
    let names = arms.iter().map(|arm| arm.name.clone()).collect();
    let (driven, ()) = tokio::join!(driving, show(Live::new(names, settings), views));
    let driven = driven?;
    if stop.is_cancelled() {
        return Err(DemoError::Interrupted);
    }
    Ok(driven)
}

async fn show(mut live: Live, mut views: mpsc::Receiver<(usize, Sample)>) {
    while let Some((arm, sample)) = views.recv().await {
        live.show(arm, sample);
    }
}

async fn one(
    run: &Run,
    stack: &Stack,
    settings: &DemoSettings,
    kills: &[Kill],
    stop: &CancellationToken,
    index: usize,
    seen: mpsc::Sender<(usize, Sample)>,
) -> anyhow::Result<Driven> {
    let mut load = run::start(plan(stack, settings)?).map_err(|error| anyhow!("generator: {error}"))?;
    let _stopped_with_the_demo = forward(stop, load.stop_token());
    let mut intervals = load.subscribe();
    let mut samples: Vec<Sample> = Vec::new();
    let mut kills = kills.to_vec();
    loop {
        match intervals.recv().await {
            Ok(interval) => {
                let last = samples.last().cloned().unwrap_or_default();
                let sample = look(stack, &interval, last).await;
                // Also after the requested second: on a busy machine a second may be skipped.
                for kill in kills.extract_if(.., |kill| kill.at_s <= sample.t_s) {
                    crash(run, stack, kill.victim);
                }
                // The live view may have ended; the run goes on.
                let _ = seen.send((index, sample.clone())).await;
                samples.push(sample);
            }
            Err(RecvError::Lagged(missed)) => {
                tracing::warn!(missed, "The machine was too slow to look at every second of an arm.");
            }
            Err(RecvError::Closed) => break,
        }
    }
    let report = load.finish().await?;
    Ok(Driven { load: totals(&report), samples })
}

/// Forwards an interruption to a generator; dropping the returned guard ends the task that does so.
fn forward(from: &CancellationToken, to: CancellationToken) -> tokio_util::sync::DropGuard {
    let ended = CancellationToken::new();
    let (from, watched) = (from.clone(), ended.clone());
    tokio::spawn(async move {
        tokio::select! {
            () = from.cancelled() => to.cancel(),
            () = watched.cancelled() => {}
        }
    });
    ended.drop_guard()
}

fn plan(stack: &Stack, settings: &DemoSettings) -> anyhow::Result<Plan> {
    let objective = Duration::from_millis(u64::from(settings.objective.latency_ms));
    let time_scale = f64::from(settings.duration_seconds) / TRACE_SECONDS;
    let rate = parse_trace(TRACE.1, time_scale, settings.peak_rps)
        .map_err(|error| anyhow!("trace {}: {error}", TRACE.0))?;
    Ok(Plan {
        name: TRACE.0.to_owned(),
        address: stack.front,
        payload: Payload::Reference {
            model: NAME.to_owned(),
            mix: settings.protocols.parse().map_err(|error| anyhow!("protocols: {error}"))?,
            rows: 1,
            verify: true,
            first_id: 1,
        },
        load: Load::Open { rate, spacing: Spacing::Poisson },
        timeout: objective * TIMEOUT_OBJECTIVES,
        objective: Some(objective),
        connections: 8,
        max_in_flight: 4096,
        interval: Duration::from_secs(1),
        seed: settings.seed,
    })
}

/// Takes the sample of one second of an arm: the generator's counts and the programs' metrics. Where a program does not
/// answer (it may just have been killed), its values of the last sample are kept.
async fn look(stack: &Stack, interval: &Interval, last: Sample) -> Sample {
    let (gateway, controller, node) = tokio::join!(
        stack.gateway_admin.metrics(),
        stack.autoscaler_admin.metrics(),
        stack.driver_admin.metrics()
    );
    let or_last = |from: &Result<Metrics, String>, name: &str, last: f64| {
        from.as_ref().ok().and_then(|metrics| metrics.sum(name)).unwrap_or(last)
    };
    Sample {
        t_s: interval.t_s.round() as u32,
        sent: interval.sent,
        answered: interval.counts.answered,
        rejected: interval.counts.rejected,
        p50_ms: interval.p50_ms.unwrap_or(0.0),
        p99_ms: interval.p99_ms.unwrap_or(0.0),
        queue_rows: or_last(&gateway, batcher::QUEUE_ROWS, last.queue_rows),
        desired_replicas: or_last(&controller, autoscaler::DESIRED_REPLICAS, last.desired_replicas),
        ready_replicas: or_last(&gateway, batcher::SLOTS, last.ready_replicas),
        slices_in_use: or_last(&node, driver::SLICES_IN_USE, last.slices_in_use),
        slices_free: or_last(&controller, autoscaler::FREE_SLICES, last.slices_free),
    }
}

fn crash(run: &Run, stack: &Stack, victim: Victim) {
    let killed = match victim {
        Victim::Driver => stack.driver.kill(),
        Victim::Autoscaler => stack.autoscaler.kill(),
        Victim::Model => stack
            .model_servers(marked::processes(&run.id))
            .first()
            .is_some_and(|pid| signal(*pid, rustix::process::Signal::KILL)),
    };
    tracing::warn!(?victim, killed, "SIGKILL, as asked for by --kill.");
}

fn totals(report: &Report) -> LoadOutcome {
    let latency = report.latency.as_ref();
    LoadOutcome {
        requests: report.requests,
        answered: report.requests - report.counts.lost,
        rejected: report.counts.rejected,
        failed: report.counts.failed,
        lost: report.counts.lost,
        lost_kinds: report.lost_kinds.clone(),
        attainment: report.attainment.unwrap_or(0.0),
        p50_ms: latency.map_or(0.0, |latency| latency.p50_ms),
        p99_ms: latency.map_or(0.0, |latency| latency.p99_ms),
        send_lag_p99_ms: report.send_lag.as_ref().map_or(0.0, |lag| lag.p99_ms),
    }
}

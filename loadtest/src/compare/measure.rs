//! Measures one peer under one load by the generator of `sluice-loadtest run`. It sends the same bytes each time and
//! judges answers by status, so that it has the same work with every peer. Before that, a peer that speaks V2 gets rows
//! that differ, and their answers are checked.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, bail};
use serde::Serialize;

use super::ask;
use super::cpu::CpuTime;
use super::peer::{Form, Peer};
use super::program::Program;
use super::scenario::{LoadPoint, Scenario};
use crate::arrivals::{RateCurve, Segment, Spacing};
use crate::plan::{Load, Mix, Payload, Plan, Protocol};
use crate::report::Report;
use crate::run;

/// Length of the load that is sent before each measurement and not counted: connections, curve and caches settle.
const SETTLE: Duration = Duration::from_millis(500);
/// Time after which a request without an answer counts as lost.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Most requests in flight in an open loop: more than a peer that rejects none can collect within [`TIMEOUT`].
const MAX_IN_FLIGHT: usize = 16_384;

/// Measurement of one peer under one load in one round.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Measurement {
    pub scenario: Scenario,
    pub peer: Peer,
    pub load: LoadPoint,
    /// Number of the round, from 0.
    pub round: usize,
    /// Requests sent.
    pub requests: u64,
    /// Number of correct answers.
    pub answered: u64,
    /// Number of correct answers within the objective; all correct answers if there is no objective.
    pub attained: u64,
    /// Number of responses 429.
    pub rejected: u64,
    /// Number of responses 429 with `Retry-After`.
    pub rejected_retry_after: u64,
    /// Number of other error responses.
    pub failed: u64,
    /// Number of lost requests: no answer, 502, 503 or 504.
    pub lost: u64,
    /// Answers per second.
    pub throughput_rps: f64,
    /// Answers within the objective per second of the schedule.
    pub attained_rps: f64,
    /// Median latency of answers; `None` without answers.
    pub p50_ms: Option<f64>,
    /// 99th percentile of the latency of answers; `None` without answers.
    pub p99_ms: Option<f64>,
    /// CPU time of the peer's processes per request, microseconds. For a proxy the reference model behind it is not
    /// included.
    pub cpu_us_per_request: f64,
    /// Share of one core that the generator (and this program) used.
    pub generator_busy: f64,
    /// Reasons why the generator measured itself and not the peer; empty for a valid measurement.
    pub invalid_because: Vec<String>,
}

/// Running peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Running<'a> {
    pub peer: Peer,
    /// Processes of the peer.
    pub program: &'a Program,
    /// Address on which the peer listens.
    pub address: SocketAddr,
}

/// Measures `running` under `load`.
///
/// # Errors
/// When the generator failed, or an answer was wrong before the measurement.
pub(crate) async fn measure(
    scenario: Scenario,
    running: Running<'_>,
    load: LoadPoint,
    round: usize,
    duration: Duration,
) -> Result<Measurement> {
    let Running { peer, program, address } = running;
    if let LoadPoint::Clients(concurrency) = load {
        let settled = send(plan(
            scenario,
            peer,
            address,
            Load::Closed { concurrency, duration: SETTLE },
            settling(peer),
        ))
        .await?;
        if let Some(first) = settled.wrong_examples.first() {
            bail!("wrong answers: {first}");
        }
    }
    let (path, body) = ask::request(peer);
    let payload = Payload::Body {
        path: path.to_owned(),
        body,
        content_type: "application/json".to_owned(),
        json_bytes: None,
    };
    let plan = plan(scenario, peer, address, schedule(scenario, load, duration)?, payload);
    let own = || CpuTime::of([std::process::id()]);
    let (cpu, generator) = (program.cpu(), own());
    let report = send(plan).await?;
    let (cpu, generator) = (program.cpu().since(&cpu), own().since(&generator));
    Ok(Measurement {
        scenario,
        peer,
        load,
        round,
        requests: report.requests,
        answered: report.counts.answered,
        attained: report.counts.attained,
        rejected: report.counts.rejected,
        rejected_retry_after: report.rejected_retry_after,
        failed: report.counts.failed,
        lost: report.counts.lost,
        throughput_rps: report.throughput_rps,
        attained_rps: report.counts.attained as f64 / duration.as_secs_f64(),
        p50_ms: report.latency.map(|latency| latency.p50_ms),
        p99_ms: report.latency.map(|latency| latency.p99_ms),
        cpu_us_per_request: cpu.as_secs_f64() * 1e6 / (report.requests as f64).max(1.0),
        generator_busy: generator.as_secs_f64() / report.duration_s,
        invalid_because: report.invalid_because,
    })
}

/// Returns the payload before the measurement: rows that differ, with each answer checked, where the peer speaks V2;
/// else the peer's own form, judged by status.
fn settling(peer: Peer) -> Payload {
    match peer.form() {
        Form::V2 => Payload::Reference {
            model: "reference".to_owned(),
            mix: Mix::only(Protocol::RestJson),
            rows: 1,
            verify: true,
            first_id: 1,
        },
        Form::Own { .. } => {
            let (path, body) = ask::request(peer);
            let content_type = "application/json".to_owned();
            Payload::Body { path: path.to_owned(), body, content_type, json_bytes: None }
        }
    }
}

fn schedule(scenario: Scenario, load: LoadPoint, duration: Duration) -> Result<Load> {
    match load {
        LoadPoint::Clients(concurrency) => Ok(Load::Closed { concurrency, duration }),
        LoadPoint::HardMaximum(factor) => {
            let rate_rps = factor * scenario.model().hard_maximum_rps();
            let rate = RateCurve::new(vec![Segment::flat(rate_rps, duration.as_secs_f64())])?;
            Ok(Load::Open { rate, spacing: Spacing::Poisson })
        }
    }
}

fn plan(scenario: Scenario, peer: Peer, address: SocketAddr, load: Load, payload: Payload) -> Plan {
    let (connections, max_in_flight) = match load {
        Load::Closed { concurrency, .. } => (concurrency, concurrency),
        Load::Open { .. } => (256, MAX_IN_FLIGHT),
    };
    Plan {
        name: peer.to_string(),
        address,
        payload,
        load,
        timeout: TIMEOUT,
        objective: scenario.objective_ms().map(Duration::from_millis),
        connections,
        max_in_flight,
        interval: Duration::from_secs(1),
        // Every peer and round has the same schedule.
        seed: 1,
    }
}

async fn send(plan: Plan) -> Result<Report> {
    let run = run::start(plan)?;
    Ok(run.finish().await?)
}

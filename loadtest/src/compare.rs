//! `sluice-loadtest compare`: measures costs and gains of the batcher beside the model alone, other proxies and other
//! batching servers, all with the same simulated model, on one machine, one after the other.
//!
//! In every round each peer is started, measured under every load and stopped, so that a change of the machine's
//! mood meets all of them. Peers that stand before the reference model share one for the round and take turns load
//! by load: what they add to its latency is small.
//!
//! | module | what it holds |
//! |---|---|
//! | [`settings`] | settings and flags |
//! | [`peer`], [`scenario`] | pure: who is compared, on which models, under which loads |
//! | [`summary`], [`goals`], [`table`] | pure: rounds → smallest, median, largest; goals; text |
//! | [`environment`] | peers installed on demand |
//! | [`launch`], [`program`], [`ask`] | how each is started, until it answers rightly, stopped |
//! | [`measure`], [`cpu`] | one measurement |

mod ask;
mod cpu;
mod environment;
mod goals;
mod launch;
mod measure;
mod peer;
mod program;
mod scenario;
pub(crate) mod settings;
mod summary;
mod table;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use environment::Proxy;
use launch::Folders;
use measure::{Measurement, Running};
use peer::Peer;
use program::{Program, free_address};
use scenario::Scenario;
use settings::Settings;
use sluice_process::settings::SettingsError;
use table::{Absent, Outcome};

/// Reason why there is no comparison.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CompareError {
    /// Settings that cannot be.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A folder or file.
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
}

/// Comparison in progress.
struct Comparison<'a> {
    settings: &'a Settings,
    folders: Folders,
    measurements: Vec<Measurement>,
    absent: Vec<Absent>,
    versions: Vec<(Peer, String)>,
}

/// Starts, measures and stops every peer, round by round.
///
/// # Errors
/// [`CompareError`]. A peer that cannot be installed or started is no error but a row that says so.
pub(crate) async fn run(settings: &Settings) -> Result<Outcome, CompareError> {
    let own = settings.bin_dir().and_then(std::path::absolute);
    let bin = own.map_err(|source| CompareError::File { path: "binDir".into(), source })?;
    let cache = settings.cache_dir()?;
    let cache = std::path::absolute(&cache).map_err(|source| CompareError::File { path: cache, source })?;
    let work = cache.join(format!("run-{}", std::process::id()));
    std::fs::create_dir_all(&work).map_err(|source| CompareError::File { path: work.clone(), source })?;
    if let Some(path) = &settings.json {
        // Found before the run, not after half an hour: that a file cannot be written.
        std::fs::write(path, "").map_err(|source| CompareError::File { path: path.clone(), source })?;
    }
    let mut comparison = Comparison {
        settings,
        folders: Folders { bin, cache, work: work.clone() },
        measurements: Vec::new(),
        absent: Vec::new(),
        versions: Vec::new(),
    };
    for scenario in Scenario::ALL.into_iter().filter(|scenario| settings.scenarios.contains(scenario)) {
        for round in 0..settings.rounds {
            comparison.round(scenario, round).await;
        }
    }
    let Comparison { measurements, absent, versions, .. } = comparison;
    if absent.is_empty() {
        let _ = std::fs::remove_dir_all(&work);
    } else {
        eprintln!("logs: {}", work.display());
    }
    let outcome = Outcome {
        what: format!(
            "One row per request, REST JSON, everything on one machine of {} CPUs over loopback; {} rounds of {:.1} s, \
             median (smallest to largest). Inference is simulated.",
            std::thread::available_parallelism().map_or(0, usize::from),
            settings.rounds,
            settings.duration_ms as f64 / 1e3
        ),
        versions,
        rows: summary::rows(&measurements),
        absent,
        goals: goals::judge(&measurements),
        measurements,
    };
    if let Some(path) = &settings.json {
        let text = serde_json::to_string_pretty(&outcome).map_err(std::io::Error::from);
        let written = text.and_then(|text| std::fs::write(path, text + "\n"));
        written.map_err(|source| CompareError::File { path: path.clone(), source })?;
    }
    Ok(outcome)
}

impl Outcome {
    /// Returns whether every peer was measured, no run was invalid, and every goal was met.
    pub(crate) fn is_complete_and_met(&self) -> bool {
        self.absent.is_empty()
            && self.rows.iter().all(|row| row.invalid_because.is_empty())
            && self.goals.iter().all(|goal| goal.met == Some(true))
    }
}

impl Comparison<'_> {
    /// One round of one scenario.
    async fn round(&mut self, scenario: Scenario, round: usize) {
        let wanted = |peer: &Peer| self.settings.peers.contains(peer) && peer.takes_part(scenario);
        // The peer that goes first changes from round to round.
        let rotated = |mut peers: Vec<Peer>| {
            let places = peers.len().max(1);
            peers.rotate_left(round % places);
            peers
        };
        let (before, servers): (Vec<Peer>, Vec<Peer>) =
            Peer::ALL.into_iter().filter(wanted).partition(|peer| peer.is_before_reference_model());
        if !before.is_empty() {
            self.before_reference_model(scenario, round, rotated(before)).await;
        }
        for peer in rotated(servers) {
            if let Err(reason) = self.server(scenario, round, peer).await {
                self.missing(scenario, round, peer, reason.to_string());
            }
        }
    }

    /// The reference model and all that stand before it, which take turns load by load.
    async fn before_reference_model(&mut self, scenario: Scenario, round: usize, peers: Vec<Peer>) {
        let model = match self.start_model(scenario).await {
            Ok(model) => model,
            Err(reason) => {
                for peer in peers {
                    self.missing(scenario, round, peer, reason.to_string());
                }
                return;
            }
        };
        let mut running: Vec<(Peer, Option<Program>, SocketAddr)> = Vec::new();
        for peer in peers {
            match self.start_before(scenario, peer, model.1).await {
                Ok((program, address)) => running.push((peer, program, address)),
                Err(reason) => self.missing(scenario, round, peer, reason.to_string()),
            }
        }
        for load in scenario.loads() {
            for (peer, program, address) in &running {
                let running =
                    Running { peer: *peer, program: program.as_ref().unwrap_or(&model.0), address: *address };
                self.measure(scenario, running, *load, round).await;
            }
        }
        for (_, program, _) in running {
            if let Some(program) = program {
                program.stop().await;
            }
        }
        model.0.stop().await;
    }

    async fn start_model(&self, scenario: Scenario) -> anyhow::Result<(Program, SocketAddr)> {
        let (address, admin) = (free_address()?, free_address()?);
        let launch = launch::model(&self.folders, scenario, address, admin);
        let mut program = Program::start(&launch, &self.folders.work)?;
        ask::until_right(Peer::Direct, &mut program, address).await?;
        Ok((program, address))
    }

    /// Starts what stands before the model at `upstream`; `None` is the model itself.
    async fn start_before(
        &mut self,
        scenario: Scenario,
        peer: Peer,
        upstream: SocketAddr,
    ) -> anyhow::Result<(Option<Program>, SocketAddr)> {
        let address = free_address()?;
        let folders = self.folders.clone();
        let launch = match peer {
            Peer::Direct => return Ok((None, upstream)),
            Peer::Nginx => launch::nginx(&folders, &self.proxy(peer).await?, address, upstream)?,
            Peer::Haproxy => launch::haproxy(&folders, &self.proxy(peer).await?, address, upstream)?,
            _ => {
                let admin = free_address()?;
                launch::sluice(&folders, scenario, peer == Peer::Sluice, address, admin, upstream)
            }
        };
        let mut program = Program::start(&launch, &folders.work)?;
        ask::until_right(peer, &mut program, address).await?;
        Ok((Some(program), address))
    }

    async fn proxy(&mut self, peer: Peer) -> anyhow::Result<Proxy> {
        let proxy = environment::proxy(peer.name(), &self.folders.cache.join("debian")).await?;
        if let Some(version) = environment::proxy_version(&proxy).await {
            self.version(peer, version);
        }
        Ok(proxy)
    }

    /// A server with the simulated model inside.
    async fn server(&mut self, scenario: Scenario, round: usize, peer: Peer) -> anyhow::Result<()> {
        if let Some(version) = environment::package(peer) {
            self.version(peer, version);
        }
        let address = free_address()?;
        let python = self.settings.python();
        let launch = launch::server(&self.folders, &python, peer, scenario, address).await?;
        let mut program = Program::start(&launch, &self.folders.work)?;
        ask::until_right(peer, &mut program, address).await?;
        for load in scenario.loads() {
            self.measure(scenario, Running { peer, program: &program, address }, *load, round).await;
        }
        program.stop().await;
        Ok(())
    }

    async fn measure(
        &mut self,
        scenario: Scenario,
        running: Running<'_>,
        load: scenario::LoadPoint,
        round: usize,
    ) {
        let duration = Duration::from_millis(self.settings.duration_ms);
        match measure::measure(scenario, running, load, round, duration).await {
            Ok(measurement) => {
                eprintln!(
                    "round {}  {:<20} {load:<10} {:>8.1} req/s  p50 {:>8.3} ms  p99 {:>8.3} ms  {:>6.1} us CPU",
                    round + 1,
                    running.peer,
                    measurement.throughput_rps,
                    measurement.p50_ms.unwrap_or(f64::NAN),
                    measurement.p99_ms.unwrap_or(f64::NAN),
                    measurement.cpu_us_per_request
                );
                self.measurements.push(measurement);
            }
            Err(reason) => self.missing(scenario, round, running.peer, format!("{load}: {reason}")),
        }
    }

    fn missing(&mut self, scenario: Scenario, round: usize, peer: Peer, reason: String) {
        eprintln!("round {}  {peer:<20} NOT MEASURED: {reason}", round + 1);
        self.absent.push(Absent { scenario, peer, round, reason });
    }

    fn version(&mut self, peer: Peer, version: String) {
        if self.versions.iter().all(|(known, _)| *known != peer) {
            self.versions.push((peer, version));
        }
    }
}

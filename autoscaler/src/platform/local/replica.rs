//! The life of one replica: prepare ▸ start ▸ listen ▸ load ▸ serve, again after every crash, and at the
//! end: out of the gateway ▸ drained ▸ SIGTERM ▸ unprepare ▸ claim deleted ▸ forgotten.
//!
//! The record is written before each step that it speaks of, so that whoever finds it knows what may have
//! happened. Only waiting is ever cut short by a stop; a step that was begun is finished.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::resource::v1::ResourceClaim;
use sluice_config::api::LocalDeployment;
use sluice_config::objects::ObjectDir;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::gateway::{Drained, Snapshot, drained};
use super::kubelet::{ClaimRef, Kubelet};
use super::members::MembersFile;
use super::process::{Launch, Process, kill_leftovers};
use super::records::{Record, Records};
use super::supervisor::Command;
use super::{cdi, process};
use crate::fetch::Fetcher;

/// Time between two looks at a port or a readiness path.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Longest time for one answer about readiness.
const READINESS_TIMEOUT: Duration = Duration::from_secs(5);
/// Pauses between attempts of a call to the driver.
const CALL_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Pauses between starts of a model server that crashes.
const CRASH_PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// Who has served this long has recovered from its crash.
const RECOVERED_AFTER: Duration = Duration::from_secs(30);

/// Where a replica is in its life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Phase {
    /// Prepares, starts or loads.
    Starting,
    /// Loaded and known to the gateway under this name.
    Serving {
        /// Name among the gateway's upstreams.
        member: String,
    },
    /// Takes traffic for the first time, so long after it was asked for.
    Started {
        /// Milliseconds.
        startup_ms: u64,
    },
    /// On its way out.
    Ending,
    /// Process, claim and record are gone.
    Gone,
}

/// What a replica needs and shares with others.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) kubelet: Kubelet,
    pub(super) records: Records,
    pub(super) store: ObjectDir,
    pub(super) cdi_dir: PathBuf,
    pub(super) log_dir: PathBuf,
    pub(super) readiness: Fetcher,
}

impl Shared {
    pub(super) fn readiness_fetcher() -> Fetcher {
        Fetcher::new(READINESS_TIMEOUT, 1 << 20)
    }
}

/// One replica's task.
pub(super) struct Replica {
    pub(super) record: Record,
    pub(super) deployment: Arc<LocalDeployment>,
    pub(super) shared: Arc<Shared>,
    pub(super) members: MembersFile,
    pub(super) gateway: watch::Receiver<Snapshot>,
    pub(super) supervisor: mpsc::Sender<Command>,
    pub(super) stop: CancellationToken,
    /// When it was asked for; `None` when it was adopted, whose start nobody has timed.
    pub(super) asked_at: Option<Instant>,
}

/// Why a replica does not serve any longer.
enum Halt {
    /// It is to go.
    Stop,
    /// Something failed; it is started again.
    Failed(String),
}

impl Replica {
    /// Lives until it is stopped and everything of it is gone.
    pub(super) async fn run(mut self) {
        let mut process = self.recover();
        let mut crashes = Backoff::new(CRASH_PAUSES.0, CRASH_PAUSES.1);
        while let Halt::Failed(why) = self.serve(&mut process, &mut crashes).await {
            tracing::warn!(replica = self.record.name, why, "A replica failed and is started again.");
            self.report(Phase::Starting).await;
            self.clear(process.take()).await;
            if self.unless_stopped(tokio::time::sleep(crashes.pause())).await.is_err() {
                break;
            }
        }
        self.end(process).await;
    }

    /// The process that a former supervisor started, if it is alive.
    fn recover(&mut self) -> Option<Process> {
        let found = match &self.record.process {
            Some(identity) => Process::adopt(identity),
            // It may have been started just before the former supervisor could write it down.
            None if self.record.starts > 0 => Process::find(&self.record.claim_uid),
            None => Ok(None),
        };
        match found {
            Ok(Some(process)) => {
                tracing::info!(
                    replica = self.record.name,
                    pid = process.identity().pid,
                    "A running model server is adopted."
                );
                self.record.process = Some(process.identity().clone());
                self.save();
                Some(process)
            }
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(replica = self.record.name, %error, "A model server cannot be adopted and is started anew.");
                None
            }
        }
    }

    async fn serve(&mut self, process: &mut Option<Process>, crashes: &mut Backoff) -> Halt {
        match self.try_serve(process, crashes).await {
            Ok(why) => Halt::Failed(why),
            Err(halt) => halt,
        }
    }

    /// Returns how the model server ended.
    async fn try_serve(
        &mut self,
        process: &mut Option<Process>,
        crashes: &mut Backoff,
    ) -> Result<String, Halt> {
        if self.stop.is_cancelled() {
            return Err(Halt::Stop);
        }
        if process.is_none() {
            *process = Some(self.launch().await?);
        }
        let (Some(running), Some(port)) = (process.as_mut(), self.record.port) else {
            return Err(Halt::Failed("its port is not known".to_owned()));
        };
        let limit = Duration::from_secs(u64::from(self.deployment.spec.readiness.timeout_seconds));
        let deadline = Instant::now() + limit;
        self.in_time(deadline, running, "did not listen", listening(port)).await?;
        let member = self.join(port).await?;
        let url = format!("http://127.0.0.1:{port}{}", self.deployment.spec.readiness.path);
        let shared = Arc::clone(&self.shared);
        self.in_time(deadline, running, "did not load", loaded(&shared.readiness, &url)).await?;
        self.report(Phase::Serving { member: member.clone() }).await;
        let serving_since = Instant::now();
        let (gateway, asked_at) = (self.gateway.clone(), self.asked_at.take());
        let supervisor = self.supervisor.clone();
        let key = self.key();
        let measured = async move {
            if let Some(asked_at) = asked_at
                && taking_traffic(gateway, &member).await
            {
                let startup_ms = u64::try_from(asked_at.elapsed().as_millis()).unwrap_or(u64::MAX);
                let _ = supervisor.send(Command::Phase { key, phase: Phase::Started { startup_ms } }).await;
            }
            std::future::pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = running.ended() => ended,
            () = self.stop.cancelled() => return Err(Halt::Stop),
            () = measured => return Err(Halt::Stop),
        };
        if serving_since.elapsed() >= RECOVERED_AFTER {
            crashes.reset();
        }
        Ok(format!("the model server {ended}"))
    }

    /// Prepares the claim, as often as it takes, and starts the process.
    async fn launch(&mut self) -> Result<Process, Halt> {
        let mut env: Vec<(String, String)> =
            self.deployment.spec.env.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let devices = self.prepare().await?;
        env.extend(
            cdi::environment(&self.shared.cdi_dir, &devices)
                .map_err(|error| Halt::Failed(error.to_string()))?,
        );
        let port = free_port().await.map_err(|error| Halt::Failed(format!("no free port: {error}")))?;
        let command: Vec<String> = self
            .deployment
            .spec
            .command
            .iter()
            .map(|argument| {
                argument.replace("{port}", &port.to_string()).replace("{name}", &self.record.name)
            })
            .collect();
        self.record.port = Some(port);
        self.record.starts += 1;
        self.record.process = None;
        self.save();
        let log = self.shared.log_dir.join(format!("{}.{}.log", self.record.namespace, self.record.name));
        let process = process::Process::start(&Launch { command: &command, env: &env, log: &log })
            .map_err(|error| Halt::Failed(error.to_string()))?;
        self.record.process = Some(process.identity().clone());
        self.save();
        tracing::info!(
            replica = self.record.name,
            pid = process.identity().pid,
            port,
            log = %log.display(),
            "A model server was started."
        );
        Ok(process)
    }

    async fn prepare(&mut self) -> Result<Vec<String>, Halt> {
        let mut pauses = Backoff::new(CALL_PAUSES.0, CALL_PAUSES.1);
        loop {
            let claim = self.claim();
            match self.unless_stopped(self.shared.kubelet.prepare(&claim)).await? {
                Ok(devices) => return Ok(devices),
                Err(error) => {
                    tracing::warn!(replica = self.record.name, %error, "The claim could not be prepared; trying again.");
                }
            }
            self.unless_stopped(tokio::time::sleep(pauses.pause())).await?;
        }
    }

    /// Becomes an upstream. Every process is one of its own, so that the gateway never mistakes a new one
    /// for the old.
    async fn join(&mut self, port: u16) -> Result<String, Halt> {
        let member = match self.record.starts {
            0 | 1 => self.record.name.clone(),
            starts => format!("{}-r{}", self.record.name, starts - 1),
        };
        self.record.member = Some(member.clone());
        self.save();
        let joined = self.members.join(&member, format!("127.0.0.1:{port}")).await;
        joined.map_err(|error| Halt::Failed(format!("the gateway's members file: {error}")))?;
        Ok(member)
    }

    /// After a failure: nothing of the process is left, the claim stays prepared.
    async fn clear(&mut self, process: Option<Process>) {
        self.leave().await;
        self.stop_process(process).await;
        self.record.process = None;
        self.record.member = None;
        self.save();
    }

    async fn end(mut self, process: Option<Process>) {
        self.report(Phase::Ending).await;
        self.record.terminating = true;
        self.save();
        if let Some(member) = self.leave().await {
            let since = Instant::now();
            let within = Duration::from_secs(u64::from(self.deployment.spec.termination.drain_seconds));
            // A dead model server has nothing to finish.
            if process.is_some() {
                match drained(&mut self.gateway, &member, since, within).await {
                    Drained::Forgotten => {}
                    Drained::GatewayGone => {
                        tracing::warn!(
                            replica = self.record.name,
                            "The gateway is gone; not waiting for it to drain."
                        );
                    }
                    Drained::TimedOut => {
                        tracing::warn!(
                            replica = self.record.name,
                            drain_ms = within.as_millis(),
                            "The gateway did not drain the replica in time; it is stopped nevertheless."
                        );
                    }
                }
            }
        }
        self.stop_process(process).await;
        self.give_back().await;
        self.report(Phase::Gone).await;
    }

    /// Out of the gateway's file. Returns the name that it had there.
    async fn leave(&mut self) -> Option<String> {
        let member = self.record.member.clone()?;
        let mut pauses = Backoff::new(CALL_PAUSES.0, CALL_PAUSES.1);
        while let Err(error) = self.members.leave(&member).await {
            tracing::warn!(member, %error, "The gateway's members file cannot be written; trying again.");
            tokio::time::sleep(pauses.pause()).await;
        }
        Some(member)
    }

    async fn stop_process(&self, process: Option<Process>) {
        if let Some(mut process) = process {
            process
                .stop(Duration::from_secs(u64::from(self.deployment.spec.termination.grace_seconds)))
                .await;
        }
        if self.record.starts > 0 {
            kill_leftovers(&self.record.claim_uid);
        }
    }

    /// Unprepares, deletes the claim, then the record: in this order a restart in between repeats a step
    /// and forgets none.
    async fn give_back(&mut self) {
        let mut pauses = Backoff::new(CALL_PAUSES.0, CALL_PAUSES.1);
        loop {
            match self.try_give_back().await {
                Ok(()) => return,
                Err(error) => {
                    tracing::warn!(
                        replica = self.record.name,
                        error,
                        "The slice could not be given back; trying again."
                    );
                }
            }
            tokio::time::sleep(pauses.pause()).await;
        }
    }

    async fn try_give_back(&self) -> Result<(), String> {
        self.shared.kubelet.unprepare(&self.claim()).await.map_err(|error| error.to_string())?;
        let (store, records, record) =
            (self.shared.store.clone(), self.shared.records.clone(), self.record.clone());
        let forgotten = tokio::task::spawn_blocking(move || {
            let (namespace, name) = (Some(record.namespace.as_str()), record.name.as_str());
            let claim = store.get::<ResourceClaim>(namespace, name).map_err(|error| error.to_string())?;
            // Somebody else's claim of the same name stays.
            if claim.is_some_and(|claim| claim.metadata.uid.as_deref() == Some(&record.claim_uid)) {
                store.delete::<ResourceClaim>(namespace, name).map_err(|error| error.to_string())?;
            }
            records.remove(&record).map_err(|error| error.to_string())
        });
        forgotten.await.unwrap_or_else(|error| Err(error.to_string()))
    }

    fn claim(&self) -> ClaimRef {
        ClaimRef {
            driver: self.record.driver.clone(),
            namespace: self.record.namespace.clone(),
            name: self.record.name.clone(),
            uid: self.record.claim_uid.clone(),
        }
    }

    fn key(&self) -> (String, String) {
        (self.record.namespace.clone(), self.record.name.clone())
    }

    /// The record is small and this happens a few times in a replica's life: written in place, so that no
    /// later write can overtake it.
    fn save(&self) {
        if let Err(error) = self.shared.records.put(&self.record) {
            tracing::error!(replica = self.record.name, %error, "A replica record could not be written; after a kill this replica may not be found again.");
        }
    }

    async fn report(&self, phase: Phase) {
        // A supervisor that is gone has nobody to tell.
        let _ = self.supervisor.send(Command::Phase { key: self.key(), phase }).await;
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Halt> {
        tokio::select! {
            done = work => Ok(done),
            () = self.stop.cancelled() => Err(Halt::Stop),
        }
    }

    /// Waits for `work` until `deadline`, the process's end, or a stop.
    async fn in_time(
        &self,
        deadline: Instant,
        process: &mut Process,
        what: &str,
        work: impl Future<Output = ()>,
    ) -> Result<(), Halt> {
        tokio::select! {
            () = work => Ok(()),
            ended = process.ended() => Err(Halt::Failed(format!("the model server {ended} while starting"))),
            () = tokio::time::sleep_until(deadline) => {
                let seconds = self.deployment.spec.readiness.timeout_seconds;
                Err(Halt::Failed(format!("the model server {what} within {seconds} s")))
            }
            () = self.stop.cancelled() => Err(Halt::Stop),
        }
    }
}

/// A port that nobody listens on now. Another may take it before the model server does: then that fails to
/// start, and gets another one.
async fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0)).await?.local_addr()?.port())
}

async fn listening(port: u16) {
    while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn loaded(readiness: &Fetcher, url: &str) {
    while readiness.get_ok(url).await.is_err() {
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits until the gateway sends traffic to the upstream; `false` when the gateway is not watched any more.
async fn taking_traffic(mut gateway: watch::Receiver<Snapshot>, member: &str) -> bool {
    gateway.wait_for(|snapshot| snapshot.is_ready(member) == Some(true)).await.is_ok()
}

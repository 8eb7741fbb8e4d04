//! Lifecycle of one replica: prepare ▸ start ▸ listen ▸ load ▸ serve, again after every crash, and at the
//! end: out of the gateway ▸ drained ▸ SIGTERM ▸ unprepare ▸ claim deleted ▸ forgotten.
//!
//! The record is written before each step that it describes, so that it always shows what may have happened. A stop
//! interrupts only waiting; a step that was begun is finished.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sluice_config::api::LocalDeployment;
use sluice_config::objects::ObjectDir;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::gateway::Snapshot;
use super::kubelet::{ClaimRef, Kubelet};
use super::members::MembersFile;
use super::messages::{Command, ReplicaPhase};
use super::process::Process;
use super::records::{ReplicaRecord, ReplicaRecords};
use crate::fetch::Fetcher;
use sluice_process::backoff::{Backoff, jitter};
use starting::{listening, loaded};

mod ending;
mod starting;

/// Time between two checks of a port or a readiness path.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Time limit of one readiness check.
const READINESS_TIMEOUT: Duration = Duration::from_secs(5);
/// Pauses between attempts of a call to the driver.
const CALL_PAUSES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// Pauses between starts of a model server that crashes.
const CRASH_PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// Time of serving after which a replica has recovered from its crash.
const RECOVERED_AFTER: Duration = Duration::from_secs(30);

/// Everything that replicas share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) kubelet: Kubelet,
    pub(super) records: ReplicaRecords,
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

/// A replica; run by a task of its own.
pub(super) struct Replica {
    pub(super) record: ReplicaRecord,
    pub(super) deployment: Arc<LocalDeployment>,
    pub(super) shared: Arc<Shared>,
    pub(super) members: MembersFile,
    pub(super) gateway: watch::Receiver<Snapshot>,
    pub(super) supervisor: mpsc::Sender<Command>,
    pub(super) stop: CancellationToken,
    /// Time at which the replica was asked for; `None` for an adopted replica, whose start is not timed.
    pub(super) asked_at: Option<Instant>,
}

/// Reason why a replica stops serving.
enum Halt {
    /// The replica must stop.
    Stop,
    /// Something failed; the replica is started again.
    Failed(String),
}

impl Replica {
    /// Runs until the replica was stopped and its process, claim and record are gone.
    pub(super) async fn run(mut self) {
        let mut process = self.recover();
        let mut crashes = Backoff::new(CRASH_PAUSES.0, CRASH_PAUSES.1);
        while let Halt::Failed(why) = self.serve(&mut process, &mut crashes).await {
            tracing::warn!(replica = self.record.name, why, "A replica failed; starting it again.");
            self.report(ReplicaPhase::Failed { why }).await;
            self.clear(process.take()).await;
            if self.unless_stopped(tokio::time::sleep(crashes.pause(jitter()))).await.is_err() {
                break;
            }
        }
        self.end(process).await;
    }

    /// Returns the process that an earlier supervisor started, if it is alive.
    fn recover(&mut self) -> Option<Process> {
        let found = match &self.record.process {
            Some(identity) => Process::adopt(identity),
            // The process may have been started just before the earlier supervisor could record it.
            None if self.record.starts > 0 => Process::find(&self.record.claim_uid),
            None => Ok(None),
        };
        match found {
            Ok(Some(process)) => {
                tracing::info!(
                    replica = self.record.name,
                    pid = process.identity().pid,
                    "Adopted a running model server."
                );
                self.record.process = Some(process.identity().clone());
                self.save();
                Some(process)
            }
            Ok(None) => None,
            Err(error) => {
                tracing::warn!(replica = self.record.name, %error, "Failed to adopt a model server; starting a new one.");
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

    /// Starts or continues the model server and waits for its end. Returns how it ended.
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
        self.report(ReplicaPhase::Serving { member: member.clone() }).await;
        let serving_since = Instant::now();
        let (gateway, asked_at) = (self.gateway.clone(), self.asked_at.take());
        let supervisor = self.supervisor.clone();
        let key = self.key();
        let measured = async move {
            if let Some(asked_at) = asked_at
                && taking_traffic(gateway, &member).await
            {
                let startup_ms = u64::try_from(asked_at.elapsed().as_millis()).unwrap_or(u64::MAX);
                let _ = supervisor
                    .send(Command::Phase { key, phase: ReplicaPhase::Started { startup_ms } })
                    .await;
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

    /// Writes the record. It is small and rarely written, so this blocks: no later write can overtake it.
    fn save(&self) {
        if let Err(error) = self.shared.records.put(&self.record) {
            tracing::error!(replica = self.record.name, %error, "Failed to write a replica record; after a kill this replica may not be found again.");
        }
    }

    async fn report(&self, phase: ReplicaPhase) {
        // An error only means that the supervisor has ended.
        let _ = self.supervisor.send(Command::Phase { key: self.key(), phase }).await;
    }

    async fn unless_stopped<T>(&self, work: impl Future<Output = T>) -> Result<T, Halt> {
        tokio::select! {
            done = work => Ok(done),
            () = self.stop.cancelled() => Err(Halt::Stop),
        }
    }

    /// Waits for `work` until `deadline`, the end of the process, or a stop.
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

/// Waits until the gateway sends traffic to the upstream. Returns `false` where the gateway is not polled any more.
async fn taking_traffic(mut gateway: watch::Receiver<Snapshot>, member: &str) -> bool {
    gateway.wait_for(|snapshot| snapshot.is_ready(member) == Some(true)).await.is_ok()
}

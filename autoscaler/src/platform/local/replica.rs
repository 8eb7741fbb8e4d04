//! The life of one replica: prepare ▸ start ▸ listen ▸ load ▸ serve, again after every crash, and at the
//! end: out of the gateway ▸ drained ▸ SIGTERM ▸ unprepare ▸ claim deleted ▸ forgotten.
//!
//! The record is written before each step that it speaks of, so that whoever finds it knows what may have
//! happened. Only waiting is ever cut short by a stop; a step that was begun is finished.

use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sluice_config::api::LocalDeployment;
use sluice_config::objects::ObjectDir;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backoff::Backoff;
use super::gateway::Snapshot;
use super::kubelet::{ClaimRef, Kubelet};
use super::members::MembersFile;
use super::process::Process;
use super::records::{ReplicaRecord, ReplicaRecords};
use super::supervisor::Command;
use crate::fetch::Fetcher;
use starting::{listening, loaded};

mod ending;
mod starting;

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
pub enum ReplicaPhase {
    /// Prepares, starts or loads.
    Starting,
    /// Failed, and is started again.
    Failed {
        /// What has failed, in words.
        why: String,
    },
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

/// One replica's task.
pub(super) struct Replica {
    pub(super) record: ReplicaRecord,
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
            self.report(ReplicaPhase::Failed { why }).await;
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

    /// The record is small and this happens a few times in a replica's life: written in place, so that no
    /// later write can overtake it.
    fn save(&self) {
        if let Err(error) = self.shared.records.put(&self.record) {
            tracing::error!(replica = self.record.name, %error, "A replica record could not be written; after a kill this replica may not be found again.");
        }
    }

    async fn report(&self, phase: ReplicaPhase) {
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

/// Waits until the gateway sends traffic to the upstream; `false` when the gateway is not watched any more.
async fn taking_traffic(mut gateway: watch::Receiver<Snapshot>, member: &str) -> bool {
    gateway.wait_for(|snapshot| snapshot.is_ready(member) == Some(true)).await.is_ok()
}

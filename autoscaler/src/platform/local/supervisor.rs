//! Who exists and who holds which claim: one task owns it, everybody else sends it messages.
//!
//! Slices are allocated and claimed inside one message, so that two controllers never get the same slice
//! and a replica that exists always has its claim.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use sluice_config::api::LocalDeployment;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::LocalConfig;
use super::gateway::Snapshot;
use super::kubelet::Kubelet;
use super::members::MembersFile;
use super::messages::ReplicaPhase;
pub use super::messages::{Command, Deployments};
use super::records::{ReplicaRecord, ReplicaRecords};
use super::replica::{Replica, Shared};
use super::startup::Startup;
use crate::platform::{PlatformError, Target};

mod scaling;
mod targets;

/// Time for unpreparing when everything is stopped, beyond the longest drain and grace.
const GIVE_BACK: Duration = Duration::from_secs(15);

/// Supervisor of all replicas of this machine.
pub struct Supervisor {
    config: LocalConfig,
    shared: Arc<Shared>,
    mailbox: mpsc::Sender<Command>,
    targets: BTreeMap<Target, DeploymentState>,
    replicas: BTreeMap<(String, String), ReplicaState>,
    sequence: u64,
    tasks: JoinSet<()>,
    stop_gateways: CancellationToken,
}

struct DeploymentState {
    deployment: Arc<LocalDeployment>,
    members: MembersFile,
    gateway: watch::Receiver<Snapshot>,
    startup: Startup,
    /// Stops polling the gateway.
    stop_gateway: CancellationToken,
    /// Whether it is no longer defined, so that only the end of its replicas is awaited.
    removed: bool,
}

struct ReplicaState {
    target: Target,
    phase: ReplicaPhase,
    /// Whether it takes traffic, as the gateway reported last.
    is_ready: bool,
    is_ending: bool,
    /// Last failure since it took traffic, and the number of failures; `None` = no failure.
    failed: Option<(String, u32)>,
    sequence: u64,
    stop: CancellationToken,
}

impl Supervisor {
    /// Adopts what a former supervisor left. Returns the supervisor, to be [`run`](Self::run), and its mailbox.
    ///
    /// # Errors
    /// ReplicaRecords or claims cannot be read: guessing would start replicas twice.
    pub fn adopt(
        config: LocalConfig,
        deployments: Deployments,
    ) -> io::Result<(Self, mpsc::Sender<Command>, mpsc::Receiver<Command>)> {
        let (mailbox, messages) = mpsc::channel(256);
        let records = ReplicaRecords::new(&config.state_dir);
        let left = records.list()?;
        let shared = Arc::new(Shared {
            kubelet: Kubelet::new(&config.kubelet_dir),
            records,
            store: config.store.clone(),
            cdi_dir: config.cdi_dir.clone(),
            log_dir: config.state_dir.join("logs"),
            readiness: Shared::readiness_fetcher(),
        });
        let mut supervisor = Self {
            config,
            shared,
            mailbox: mailbox.clone(),
            targets: BTreeMap::new(),
            replicas: BTreeMap::new(),
            sequence: 0,
            tasks: JoinSet::new(),
            stop_gateways: CancellationToken::new(),
        };
        supervisor.define(deployments, &left);
        for record in left {
            supervisor.take_over(record)?;
        }
        Ok((supervisor, mailbox, messages))
    }

    /// Serves the mailbox until everything was stopped or all senders are gone. Dropping the future leaves the model servers
    /// running.
    pub async fn run(mut self, mut messages: mpsc::Receiver<Command>) {
        loop {
            let message = tokio::select! {
                message = messages.recv() => message,
                Some(ended) = self.tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "A replica's task panicked; its record is kept for the next start.");
                    }
                    continue;
                }
            };
            match message {
                None => break,
                Some(Command::StopAll { reply }) => {
                    let left = self.stop_all(&mut messages).await;
                    let _ = reply.send(left);
                    break;
                }
                Some(message) => self.handle(message).await,
            }
        }
        self.stop_gateways.cancel();
    }

    async fn handle(&mut self, message: Command) {
        match message {
            Command::Replicas { target, reply } => {
                let _ = reply.send(self.replicas_of(&target));
            }
            Command::SetReplicas { target, replicas, reply } => {
                let _ = reply.send(self.set_replicas(&target, replicas).await);
            }
            Command::Capacity { target, reply } => {
                let _ = reply.send(self.capacity(&target).await);
            }
            Command::Deployments(deployments) => self.define(deployments, &[]),
            Command::Phase { key, phase } => self.phase(&key, phase),
            Command::StopAll { reply } => {
                let _ = reply.send(Vec::new());
            }
        }
    }

    fn spawn(&mut self, target: &Target, record: ReplicaRecord, asked_at: Option<Instant>, is_ending: bool) {
        let Some(scaled) = self.targets.get(target) else { return };
        let key = (record.namespace.clone(), record.name.clone());
        let stop = CancellationToken::new();
        if is_ending {
            stop.cancel();
        }
        let replica = Replica {
            record,
            deployment: Arc::clone(&scaled.deployment),
            shared: Arc::clone(&self.shared),
            members: scaled.members.clone(),
            gateway: scaled.gateway.clone(),
            supervisor: self.mailbox.clone(),
            stop: stop.clone(),
            asked_at,
        };
        self.tasks.spawn(replica.run());
        self.sequence += 1;
        let known = ReplicaState {
            target: target.clone(),
            phase: if is_ending { ReplicaPhase::Ending } else { ReplicaPhase::Starting },
            is_ready: false,
            is_ending,
            failed: None,
            sequence: self.sequence,
            stop,
        };
        self.replicas.insert(key, known);
    }

    fn phase(&mut self, key: &(String, String), phase: ReplicaPhase) {
        let Some(known) = self.replicas.get_mut(key) else { return };
        let target = known.target.clone();
        match phase {
            ReplicaPhase::Started { startup_ms } => {
                tracing::info!(replica = key.1, startup_ms, "A replica takes traffic.");
                if let Some(scaled) = self.targets.get_mut(&target)
                    && let Err(error) = scaled.startup.measured(startup_ms)
                {
                    tracing::warn!(%target, %error, "Failed to write the start-up time.");
                }
            }
            ReplicaPhase::Gone => {
                tracing::info!(replica = key.1, "A replica has ended and its slice is free.");
                self.replicas.remove(key);
                self.forget_removed();
            }
            ReplicaPhase::Failed { why } => {
                known.failed = Some((why, known.failed.as_ref().map_or(1, |(_, times)| times + 1)));
                known.phase = ReplicaPhase::Starting;
            }
            phase => known.phase = phase,
        }
    }

    fn end_where(&mut self, is_ending: impl Fn(&ReplicaState) -> bool) {
        for known in self.replicas.values_mut().filter(|known| is_ending(known)) {
            known.is_ending = true;
            known.stop.cancel();
        }
    }

    /// Stops every replica. Returns the names of those that are left after the longest drain and grace.
    async fn stop_all(&mut self, messages: &mut mpsc::Receiver<Command>) -> Vec<String> {
        self.end_where(|_| true);
        let seconds = |scaled: &DeploymentState| {
            let termination = &scaled.deployment.spec.termination;
            u64::from(termination.drain_seconds) + u64::from(termination.grace_seconds)
        };
        let longest = Duration::from_secs(self.targets.values().map(seconds).max().unwrap_or(0));
        let deadline = Instant::now() + longest + GIVE_BACK;
        while !self.replicas.is_empty() {
            match tokio::time::timeout_at(deadline, messages.recv()).await {
                Ok(Some(Command::SetReplicas { reply, .. })) => {
                    let _ = reply.send(Err(PlatformError::Unavailable("stopping".to_owned())));
                }
                Ok(Some(message)) => self.handle(message).await,
                Ok(None) | Err(_) => break,
            }
        }
        self.replicas.keys().map(|(_, name)| name.clone()).collect()
    }
}

//! Who exists and who holds which claim: one task owns it, everybody else sends it messages.
//!
//! Slices are allocated and claimed inside one message, so that two controllers never get the same slice
//! and a replica that exists always has its claim.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use sluice_config::api::LocalDeployment;
use sluice_config::objects::ObjectDir;
use sluice_inventory::{Cluster, Refusal, allocate};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::JoinSet;
use tokio::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

use super::gateway::{self, Snapshot};
use super::kubelet::Kubelet;
use super::members::{Members, MembersFile};
use super::records::{Record, Records};
use super::replica::{Phase, Replica, Shared};
use super::startup::Startup;
use super::victims::{self, Candidate};
use super::{LocalConfig, claims};
use crate::capacity::CapacityView;
use crate::platform::{Batcher, PlatformError, Replicas, Target};

/// Beyond the longest drain and grace: for unpreparing, when everything is stopped.
const GIVE_BACK: Duration = Duration::from_secs(15);

/// Deployments by namespace and name.
pub type Deployments = BTreeMap<Target, Arc<LocalDeployment>>;

type Reply<T> = oneshot::Sender<T>;

/// A message to the supervisor.
#[derive(Debug)]
pub enum Command {
    /// What a target's replicas are.
    Replicas {
        /// Whose.
        target: Target,
        /// Answer.
        reply: Reply<Result<Replicas, PlatformError>>,
    },
    /// So many replicas, please.
    SetReplicas {
        /// Of what.
        target: Target,
        /// How many.
        replicas: u32,
        /// How many there are now.
        reply: Reply<Result<u32, PlatformError>>,
    },
    /// What the placement of the next replica depends on.
    Capacity {
        /// Of what.
        target: Target,
        /// Answer.
        reply: Reply<Result<CapacityView, PlatformError>>,
    },
    /// These are all deployments from now on.
    Deployments(Deployments),
    /// A replica is in another phase.
    Phase {
        /// Namespace and name of the replica.
        key: (String, String),
        /// Where it is now.
        phase: Phase,
    },
    /// Stop every replica; the answer names those that could not be stopped in time.
    StopAll {
        /// Names of what is left.
        reply: Reply<Vec<String>>,
    },
}

/// The task's state.
pub struct Supervisor {
    config: LocalConfig,
    shared: Arc<Shared>,
    mailbox: mpsc::Sender<Command>,
    targets: BTreeMap<Target, Scaled>,
    replicas: BTreeMap<(String, String), Known>,
    sequence: u64,
    tasks: JoinSet<()>,
    stop_gateways: CancellationToken,
}

struct Scaled {
    deployment: Arc<LocalDeployment>,
    members: MembersFile,
    gateway: watch::Receiver<Snapshot>,
    startup: Startup,
    /// Ends the questions to the gateway.
    stop_gateway: CancellationToken,
    /// No longer defined: only its replicas' end is awaited.
    removed: bool,
}

struct Known {
    target: Target,
    phase: Phase,
    /// As the gateway said last.
    is_ready: bool,
    is_ending: bool,
    sequence: u64,
    stop: CancellationToken,
}

impl Supervisor {
    /// Adopts what a former supervisor left. Returns the supervisor, to be [`run`](Self::run), and its mailbox.
    ///
    /// # Errors
    /// Records or claims cannot be read: guessing would start replicas twice.
    pub fn adopt(
        config: LocalConfig,
        deployments: Deployments,
    ) -> io::Result<(Self, mpsc::Sender<Command>, mpsc::Receiver<Command>)> {
        let (mailbox, messages) = mpsc::channel(256);
        let records = Records::new(&config.state_dir);
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

    /// Serves the mailbox until everything was stopped, or its senders are gone. Dropping the future
    /// leaves the model servers running.
    pub async fn run(mut self, mut messages: mpsc::Receiver<Command>) {
        loop {
            let message = tokio::select! {
                message = messages.recv() => message,
                Some(ended) = self.tasks.join_next() => {
                    if let Err(error) = ended {
                        tracing::error!(%error, "A replica's task broke; its record is kept for the next start.");
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

    /// Takes in the deployments. `adopted` are replicas that may still be upstreams of a gateway.
    fn define(&mut self, deployments: Deployments, adopted: &[Record]) {
        for (target, deployment) in &deployments {
            if let Err(error) = self.config.store.put(
                Some(&target.namespace),
                &target.name,
                &with_namespace(deployment, &target.namespace),
            ) {
                tracing::warn!(%target, %error, "The LocalDeployment could not be written to the store.");
            }
        }
        for (target, deployment) in deployments.clone() {
            match self.targets.get_mut(&target) {
                Some(known) => {
                    if known.deployment.spec.gateway != deployment.spec.gateway {
                        tracing::warn!(%target, "spec.gateway changed; this takes effect when the autoscaler is started again.");
                    }
                    if known.deployment.spec != deployment.spec {
                        tracing::info!(%target, "The LocalDeployment changed; replicas that are started from now on follow it.");
                    }
                    known.deployment = deployment;
                    known.removed = false;
                }
                None => self.add_target(target, deployment, adopted),
            }
        }
        let removed: Vec<Target> =
            self.targets.keys().filter(|target| !deployments.contains_key(target)).cloned().collect();
        for target in removed {
            if let Some(scaled) = self.targets.get_mut(&target) {
                scaled.removed = true;
            }
            self.end_where(|known| known.target == target);
        }
        self.forget_removed();
    }

    /// Forgets targets that are no longer defined and have no replicas left.
    fn forget_removed(&mut self) {
        let Self { targets, replicas, config, .. } = self;
        targets.retain(|target, scaled| {
            let stays = !scaled.removed || replicas.values().any(|known| known.target == *target);
            if !stays {
                scaled.stop_gateway.cancel();
                if let Err(error) = config.store.delete::<LocalDeployment>(Some(&target.namespace), &target.name) {
                    tracing::warn!(%target, %error, "A LocalDeployment that was removed is still in the store.");
                }
            }
            stays
        });
    }

    fn add_target(&mut self, target: Target, deployment: Arc<LocalDeployment>, adopted: &[Record]) {
        let upstream = |record: &Record| {
            let alive = record.process.as_ref()?.is_alive().unwrap_or(true);
            let address = format!("127.0.0.1:{}", record.port?);
            (alive && !record.terminating && record.target() == target)
                .then(|| Some((record.member.clone()?, address)))
                .flatten()
        };
        let members: Members = adopted.iter().filter_map(upstream).collect();
        let reference = &deployment.spec.gateway;
        let stop_gateway = self.stop_gateways.child_token();
        let scaled = Scaled {
            members: MembersFile::own(reference.members_file.clone(), members),
            gateway: gateway::follow(&reference.admin_url, stop_gateway.clone()),
            stop_gateway,
            startup: Startup::load(&self.config.state_dir, &target.namespace, &target.name),
            removed: false,
            deployment,
        };
        self.targets.insert(target, scaled);
    }

    /// Goes on with a replica of a former supervisor.
    fn take_over(&mut self, record: Record) -> io::Result<()> {
        let target = record.target();
        if !self.targets.contains_key(&target) {
            // No longer wanted, but it has to end in good order.
            let last_known: Option<LocalDeployment> = self
                .config
                .store
                .get(Some(&target.namespace), &target.name)
                .map_err(|error| io::Error::other(error.to_string()))?;
            let Some(deployment) = last_known else {
                tracing::error!(%target, replica = record.name, "A replica is left of a LocalDeployment that is not known any more; define it again, so that the replica can be ended.");
                return Ok(());
            };
            self.add_target(target.clone(), Arc::new(deployment), std::slice::from_ref(&record));
            if let Some(scaled) = self.targets.get_mut(&target) {
                scaled.removed = true;
            }
        }
        let claim: Option<ResourceClaim> = self
            .config
            .store
            .get(Some(&record.namespace), &record.name)
            .map_err(|error| io::Error::other(error.to_string()))?;
        let holds_its_claim =
            claim.is_some_and(|claim| claim.metadata.uid.as_deref() == Some(&record.claim_uid));
        let is_wanted = self.targets.get(&target).is_some_and(|scaled| !scaled.removed);
        let is_ending = record.terminating || !holds_its_claim || !is_wanted;
        self.spawn(&target, record, None, is_ending);
        Ok(())
    }

    fn spawn(&mut self, target: &Target, record: Record, asked_at: Option<Instant>, is_ending: bool) {
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
        let known = Known {
            target: target.clone(),
            phase: if is_ending { Phase::Ending } else { Phase::Starting },
            is_ready: false,
            is_ending,
            sequence: self.sequence,
            stop,
        };
        self.replicas.insert(key, known);
    }

    fn scaled(&self, target: &Target) -> Result<&Scaled, PlatformError> {
        let known = self.targets.get(target).filter(|scaled| !scaled.removed);
        known.ok_or_else(|| PlatformError::UnknownTarget(target.clone()))
    }

    fn replicas_of(&mut self, target: &Target) -> Result<Replicas, PlatformError> {
        self.update_ready(target);
        let scaled = self.scaled(target)?;
        let admin_url = scaled.deployment.spec.gateway.admin_url.trim_end_matches('/').to_owned();
        let mut replicas = Replicas {
            startup_ms: scaled.startup.smoothed_ms(),
            batchers: vec![Batcher { name: admin_url.clone(), metrics_url: format!("{admin_url}/metrics") }],
            ..Replicas::default()
        };
        for known in self.replicas.values().filter(|known| known.target == *target) {
            match known {
                Known { is_ending: true, .. } => replicas.terminating += 1,
                Known { is_ready: true, .. } => replicas.ready += 1,
                _ => replicas.starting += 1,
            }
        }
        replicas.asked = replicas.ready + replicas.starting;
        Ok(replicas)
    }

    /// As the gateway says; while it says nothing, as it said last.
    fn update_ready(&mut self, target: &Target) {
        let Some(scaled) = self.targets.get(target) else { return };
        let snapshot = scaled.gateway.borrow().clone();
        for known in self.replicas.values_mut().filter(|known| known.target == *target) {
            match &known.phase {
                Phase::Serving { member } => {
                    known.is_ready = snapshot.is_ready(member).unwrap_or(known.is_ready);
                }
                _ => known.is_ready = false,
            }
        }
    }

    async fn set_replicas(&mut self, target: &Target, wanted: u32) -> Result<u32, PlatformError> {
        let replicas = self.replicas_of(target)?;
        if wanted < replicas.asked {
            self.shrink(target, (replicas.asked - wanted) as usize);
            return Ok(wanted);
        }
        self.grow(target, replicas.asked, wanted).await
    }

    fn shrink(&mut self, target: &Target, count: usize) {
        let candidates = self
            .replicas
            .iter()
            .filter(|(_, known)| known.target == *target && !known.is_ending)
            .map(|((_, name), known)| Candidate {
                name: name.clone(),
                is_ready: known.is_ready,
                sequence: known.sequence,
            })
            .collect();
        for name in victims::choose(candidates, count) {
            if let Some(known) = self.replicas.get_mut(&(target.namespace.clone(), name)) {
                known.is_ending = true;
                known.stop.cancel();
            }
        }
    }

    async fn grow(&mut self, target: &Target, mut asked: u32, wanted: u32) -> Result<u32, PlatformError> {
        let asked_at = Instant::now();
        let class = self.scaled(target)?.deployment.spec.claim.device_class_name.clone();
        let mut cluster = self.cluster().await?;
        while asked < wanted {
            let name = self.free_name(target);
            let uid = uuid::Uuid::new_v4().to_string();
            let mut claim = claims::new(&target.namespace, &name, &uid, &class, &target.name);
            match allocate(&cluster, &claim) {
                Ok(allocation) => claims::allocate_to(&mut claim, allocation.result),
                // Taken by another since it was counted: the next decision counts again.
                Err(Refusal::NoFit { reason }) => {
                    tracing::warn!(%target, asked, wanted, reason, "Fewer replicas than wanted: no slice is free.");
                    break;
                }
                Err(refusal) => return Err(PlatformError::Unavailable(refusal.to_string())),
            }
            let record = self.claim(target, &name, uid, &claim).await?;
            cluster.claims.push(claim);
            self.spawn(target, record, Some(asked_at), false);
            asked += 1;
        }
        Ok(asked)
    }

    /// Writes the record, then the claim: a claim without a record would stay for ever.
    async fn claim(
        &self,
        target: &Target,
        name: &str,
        uid: String,
        claim: &ResourceClaim,
    ) -> Result<Record, PlatformError> {
        let record = Record {
            namespace: target.namespace.clone(),
            deployment: target.name.clone(),
            name: name.to_owned(),
            claim_uid: uid,
            driver: claims::driver(claim).unwrap_or_default().to_owned(),
            process: None,
            port: None,
            member: None,
            starts: 0,
            terminating: false,
        };
        let (records, store) = (self.shared.records.clone(), self.config.store.clone());
        let (written, claim) = (record.clone(), claim.clone());
        off_the_runtime(move || {
            records.put(&written).map_err(|error| error.to_string())?;
            store.put(Some(&written.namespace), &written.name, &claim).map_err(|error| {
                let _ = records.remove(&written);
                error.to_string()
            })
        })
        .await?;
        Ok(record)
    }

    /// `<deployment>-<n>` with the smallest n that neither a replica nor the gateway knows.
    fn free_name(&self, target: &Target) -> String {
        let gateway = self.targets.get(target).map(|scaled| scaled.gateway.borrow().clone());
        let is_taken = |name: &String| {
            self.replicas.contains_key(&(target.namespace.clone(), name.clone()))
                || gateway.as_ref().is_some_and(|gateway| gateway.lists(name) == Some(true))
        };
        let mut names = (0_u32..).map(|index| format!("{}-{index}", target.name));
        names.find(|name| !is_taken(name)).unwrap_or_default()
    }

    async fn capacity(&self, target: &Target) -> Result<CapacityView, PlatformError> {
        let device_class = self.scaled(target)?.deployment.spec.claim.device_class_name.clone();
        // Every replica that was asked for has its claim already, so nothing is merely promised.
        Ok(CapacityView { cluster: self.cluster().await?, device_class, promised: Vec::new() })
    }

    async fn cluster(&self) -> Result<Cluster, PlatformError> {
        let store = self.config.store.clone();
        off_the_runtime(move || read_cluster(&store)).await
    }

    fn phase(&mut self, key: &(String, String), phase: Phase) {
        let Some(known) = self.replicas.get_mut(key) else { return };
        let target = known.target.clone();
        match phase {
            Phase::Started { startup_ms } => {
                tracing::info!(replica = key.1, startup_ms, "A replica takes traffic.");
                if let Some(scaled) = self.targets.get_mut(&target)
                    && let Err(error) = scaled.startup.measured(startup_ms)
                {
                    tracing::warn!(%target, %error, "The start-up time could not be written down.");
                }
            }
            Phase::Gone => {
                tracing::info!(replica = key.1, "A replica has ended and its slice is free.");
                self.replicas.remove(key);
                self.forget_removed();
            }
            phase => known.phase = phase,
        }
    }

    fn end_where(&mut self, is_ending: impl Fn(&Known) -> bool) {
        for known in self.replicas.values_mut().filter(|known| is_ending(known)) {
            known.is_ending = true;
            known.stop.cancel();
        }
    }

    /// Stops every replica. Returns the names of those that are left after the longest drain and grace.
    async fn stop_all(&mut self, messages: &mut mpsc::Receiver<Command>) -> Vec<String> {
        self.end_where(|_| true);
        let seconds = |scaled: &Scaled| {
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

/// The scheduler's view, from the object directory.
///
/// # Errors
/// Names the file that cannot be read.
pub fn read_cluster(store: &ObjectDir) -> Result<Cluster, String> {
    let error = |error: sluice_config::objects::ObjectError| error.to_string();
    Ok(Cluster {
        slices: store.list::<ResourceSlice>().map_err(error)?,
        claims: store.list::<ResourceClaim>().map_err(error)?,
        device_classes: store.list::<DeviceClass>().map_err(error)?,
        ..Cluster::default()
    })
}

fn with_namespace(deployment: &LocalDeployment, namespace: &str) -> LocalDeployment {
    let mut deployment = deployment.clone();
    deployment.metadata.namespace = Some(namespace.to_owned());
    deployment
}

async fn off_the_runtime<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, PlatformError> {
    let done = tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(error.to_string()));
    done.map_err(PlatformError::Unavailable)
}

//! Messages between controllers, replicas and their supervisor.

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_config::api::LocalDeployment;
use tokio::sync::oneshot;

use crate::capacity::CapacityView;
use crate::platform::{PlatformError, Replicas, Target};

/// Deployments by namespace and name.
pub type Deployments = BTreeMap<Target, Arc<LocalDeployment>>;

pub(super) type Reply<T> = oneshot::Sender<T>;

/// A message to the supervisor.
#[derive(Debug)]
pub enum Command {
    /// Asks for the present replicas of a target.
    Replicas { target: Target, reply: Reply<Result<Replicas, PlatformError>> },
    /// Sets the replicas of a target.
    SetReplicas {
        target: Target,
        replicas: u32,
        /// Receives the number asked for now.
        reply: Reply<Result<u32, PlatformError>>,
    },
    /// Asks what the placement of the next replica depends on.
    Capacity { target: Target, reply: Reply<Result<CapacityView, PlatformError>> },
    /// Replaces all deployments.
    Deployments(Deployments),
    /// Reports that a replica is in another phase.
    Phase {
        /// Namespace and name of the replica.
        key: (String, String),
        phase: ReplicaPhase,
    },
    /// Stops every replica.
    StopAll {
        /// Receives the names of those that could not be stopped in time.
        reply: Reply<Vec<String>>,
    },
}

/// Phase of a replica's lifecycle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplicaPhase {
    /// It is prepared, started or loading.
    Starting,
    /// It failed, and is started again.
    Failed {
        /// What failed.
        why: String,
    },
    /// It is loaded, and known to the gateway.
    Serving {
        /// Name among the gateway's upstreams.
        member: String,
    },
    /// It takes traffic for the first time.
    Started {
        /// Time since it was asked for, milliseconds.
        startup_ms: u64,
    },
    /// It is being stopped.
    Ending,
    /// Process, claim and record are gone.
    Gone,
}

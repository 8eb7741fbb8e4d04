//! Platform `local`: model servers as processes on this machine, each with a claimed GPU slice, behind one
//! gateway. It plays the parts that a cluster has: scheduler (first fit by sluice-inventory), kubelet
//! (prepares claims over sluice-driver's socket), and ReplicaSet (keeps as many as were asked for).
//!
//! ```text
//!  LocalPlatform ──messages──▶ supervisor (one task: who exists, who holds which claim)
//!                                 ├─▶ replica  (a task each: prepare ▸ start ▸ load ▸ serve ▸ drain ▸ stop ▸ give back)
//!                                 ├─▶ members  (a task per gateway: its file of upstreams)
//!                                 └─▶ gateway  (a task per gateway: what it says about its upstreams)
//! ```
//!
//! Everything that a restart needs is in a replica's record, written before the step that it speaks of:
//! after kill -9 the next supervisor adopts what runs, finishes what was ending, and forgets the rest.

use std::path::PathBuf;

use async_trait::async_trait;
use sluice_config::api::inference_autoscaler::Gateway;
use sluice_config::objects::ObjectDir;
use tokio::sync::{mpsc, oneshot};

use super::{Platform, PlatformError, Replicas, ScaleTarget};
use crate::capacity::CapacityView;
use supervisor::Command;

mod backoff;
mod cdi;
pub(super) mod claims;
pub(crate) mod cluster;
mod gateway;
mod kubelet;
mod members;
mod process;
mod procfs;
pub mod records;
mod replica;
mod startup;
pub mod supervisor;
mod victims;

/// Where everything lies.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// Slices, classes and claims, shared with sluice-driver.
    pub store: ObjectDir,
    /// Where sluice-driver has its sockets.
    pub kubelet_dir: PathBuf,
    /// Where sluice-driver writes CDI specifications.
    pub cdi_dir: PathBuf,
    /// ReplicaRecords and logs.
    pub state_dir: PathBuf,
}

/// The platform as controllers see it: a mailbox of the supervisor.
#[derive(Debug, Clone)]
pub struct LocalPlatform {
    mailbox: mpsc::Sender<Command>,
}

impl LocalPlatform {
    /// Speaks to the supervisor behind `mailbox`.
    pub fn new(mailbox: mpsc::Sender<Command>) -> Self {
        Self { mailbox }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Result<T, PlatformError> {
        let gone = || PlatformError::Unavailable("the local platform has stopped".to_owned());
        let (reply, answer) = oneshot::channel();
        self.mailbox.send(command(reply)).await.map_err(|_| gone())?;
        answer.await.map_err(|_| gone())
    }
}

#[async_trait]
impl Platform for LocalPlatform {
    async fn replicas(
        &self,
        target: &ScaleTarget,
        // A LocalDeployment names its gateway itself.
        _gateway: Option<&Gateway>,
    ) -> Result<Replicas, PlatformError> {
        self.ask(|reply| Command::Replicas { target: target.at.clone(), reply }).await?
    }

    async fn set_replicas(&self, target: &ScaleTarget, replicas: u32) -> Result<u32, PlatformError> {
        self.ask(|reply| Command::SetReplicas { target: target.at.clone(), replicas, reply }).await?
    }

    async fn capacity(&self, target: &ScaleTarget) -> Result<CapacityView, PlatformError> {
        self.ask(|reply| Command::Capacity { target: target.at.clone(), reply }).await?
    }
}

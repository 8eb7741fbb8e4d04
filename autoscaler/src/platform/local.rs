//! Platform `local`: model servers as processes on this machine, each with a claimed GPU slice, behind one
//! gateway. It takes the roles that a cluster has: scheduler (first fit by sluice-inventory), kubelet
//! (prepares claims over sluice-driver's socket), and ReplicaSet (keeps as many as were asked for).
//!
//! ```text
//!  LocalPlatform ──messages──▶ supervisor (one task: all replicas and their claims)
//!                                 ├─▶ replica  (a task each: prepare ▸ start ▸ load ▸ serve ▸ drain ▸ stop ▸ give back)
//!                                 ├─▶ members  (a task per gateway: its file of upstreams)
//!                                 └─▶ gateway  (a task per gateway: polls the state of its upstreams)
//! ```
//!
//! Everything that a restart needs is in a replica's record, which is written before the step that it describes. After
//! kill -9 the next supervisor adopts running replicas, finishes ending ones, and forgets the rest.

use std::path::PathBuf;

use async_trait::async_trait;
use sluice_config::api::inference_autoscaler::Gateway;
use sluice_config::objects::ObjectDir;
use tokio::sync::{mpsc, oneshot};

use super::{Platform, PlatformError, Replicas, ScaleTarget};
use crate::capacity::CapacityView;
use messages::Command;

mod cdi;
pub(super) mod claims;
pub(crate) mod cluster;
mod gateway;
mod kubelet;
mod members;
mod messages;
mod process;
mod procfs;
pub mod records;
mod replica;
mod startup;
pub mod supervisor;
mod victims;

/// Directories of the local platform.
#[derive(Debug, Clone)]
pub struct LocalConfig {
    /// Object directory with slices, classes and claims, shared with sluice-driver.
    pub store: ObjectDir,
    /// Kubelet directory with sluice-driver's sockets.
    pub kubelet_dir: PathBuf,
    /// Directory of sluice-driver's CDI specifications.
    pub cdi_dir: PathBuf,
    /// ReplicaRecords and logs.
    pub state_dir: PathBuf,
}

/// Platform of one machine; sends its questions to the supervisor.
#[derive(Debug, Clone)]
pub struct LocalPlatform {
    mailbox: mpsc::Sender<Command>,
}

impl LocalPlatform {
    /// Creates a platform that sends to the supervisor's `mailbox`.
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

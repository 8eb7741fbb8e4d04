//! One machine in a temporary directory: slices of simulated GPUs, a plugin, a gateway, a deployment.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::resource::v1::ResourceClaim;
use sluice_autoscaler::platform::local::records::{ReplicaRecord, ReplicaRecords};
use sluice_autoscaler::platform::local::supervisor::{Command, Deployments, Supervisor};
use sluice_autoscaler::platform::local::{LocalConfig, LocalPlatform};
use sluice_autoscaler::platform::{Platform, Replicas, ScaleTarget, Target};
use sluice_config::api::local_deployment::{ClaimTemplate, GatewayRef, Readiness, Termination};
use sluice_config::api::{LocalDeployment, LocalDeploymentSpec};
use sluice_config::names;
use sluice_config::objects::ObjectDir;
use sluice_inventory::{SliceLayout, device_classes, resource_slices};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::gateway::Gateway;
use crate::journal::Journal;
use crate::{model, plugin};

pub(crate) struct Rig {
    pub(crate) dir: TempDir,
    pub(crate) config: LocalConfig,
    pub(crate) journal: Journal,
    pub(crate) gateway: Gateway,
    pub(crate) plugin: Option<JoinHandle<()>>,
    pub(crate) model_crashes: bool,
}

/// A running supervisor.
pub(crate) struct Running {
    pub(crate) platform: LocalPlatform,
    pub(crate) mailbox: mpsc::Sender<Command>,
    task: JoinHandle<()>,
}

pub(crate) fn target() -> ScaleTarget {
    ScaleTarget {
        at: Target { namespace: "default".to_owned(), name: "bert".to_owned() },
        api_version: "sluice.dev/v1alpha1".to_owned(),
        kind: "LocalDeployment".to_owned(),
    }
}

impl Rig {
    /// Creates a machine with one GPU on which three slices of 2g.10gb fit.
    pub(crate) async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::begin(&dir.path().join("journal"));
        let gateway = Gateway::start(&dir.path().join("members.json"), &journal).await;
        let config = LocalConfig {
            store: ObjectDir::new(dir.path().join("store")),
            kubelet_dir: dir.path().join("kubelet"),
            cdi_dir: dir.path().join("cdi"),
            state_dir: dir.path().join("state"),
        };
        let gpus = [sluice_testkit::gpus::a100(0, &["2g.10gb"])];
        for slice in resource_slices("node", names::DRIVER, &gpus, SliceLayout::Combined, 1).unwrap() {
            let name = slice.metadata.name.clone().unwrap();
            config.store.put(None, &name, &slice).unwrap();
        }
        for class in device_classes(names::DRIVER, &gpus) {
            let name = class.metadata.name.clone().unwrap();
            config.store.put(None, &name, &class).unwrap();
        }
        Self { dir, config, journal, gateway, plugin: None, model_crashes: false }
    }

    pub(crate) fn start_plugin(&mut self) {
        let Self { config, journal, .. } = self;
        self.plugin = Some(plugin::start(&config.kubelet_dir, &config.cdi_dir, &config.store, journal));
    }

    pub(crate) fn deployment(&self) -> LocalDeployment {
        let mut env: BTreeMap<String, String> =
            model::env(&self.journal, self.model_crashes).into_iter().collect();
        env.insert("OWN".to_owned(), "yes".to_owned());
        // The claimed device's variables win over the deployment's.
        env.insert("SLUICE_PROFILE".to_owned(), "wrong".to_owned());
        let spec = LocalDeploymentSpec {
            command: model::command(),
            env,
            claim: ClaimTemplate { device_class_name: "mig-2g-10gb.gpu.sluice.dev".to_owned() },
            readiness: Readiness::default(),
            termination: Termination { drain_seconds: 60, grace_seconds: 30 },
            gateway: GatewayRef {
                members_file: self.gateway.members_file.clone(),
                admin_url: self.gateway.admin_url.clone(),
            },
        };
        let mut deployment = LocalDeployment::new("bert", spec);
        deployment.metadata.namespace = Some("default".to_owned());
        deployment
    }

    pub(crate) fn start(&self) -> Running {
        let deployments = Deployments::from([(target().at, Arc::new(self.deployment()))]);
        let (supervisor, mailbox, messages) = Supervisor::adopt(self.config.clone(), deployments).unwrap();
        Running {
            platform: LocalPlatform::new(mailbox.clone()),
            mailbox,
            task: tokio::spawn(supervisor.run(messages)),
        }
    }

    pub(crate) fn claims(&self) -> Vec<ResourceClaim> {
        self.config.store.list().unwrap()
    }

    pub(crate) fn records(&self) -> Vec<ReplicaRecord> {
        ReplicaRecords::new(&self.config.state_dir).list().unwrap()
    }

    /// Returns the pids of all model servers that were ever started, in order.
    pub(crate) fn started_pids(&self) -> Vec<i32> {
        let pid = |line: &String| {
            let field = line.split(' ').find_map(|field| field.strip_prefix("pid="));
            field.unwrap().parse().unwrap()
        };
        self.journal.matching("start ").iter().map(pid).collect()
    }

    pub(crate) fn logs(&self) -> PathBuf {
        self.config.state_dir.join("logs")
    }
}

impl Running {
    pub(crate) async fn replicas(&self) -> Replicas {
        self.platform.replicas(&target(), None).await.unwrap()
    }

    pub(crate) async fn set(&self, replicas: u32) -> u32 {
        self.platform.set_replicas(&target(), replicas).await.unwrap()
    }

    /// Waits until exactly this number of replicas takes traffic.
    pub(crate) async fn ready(&self, replicas: u32) {
        let mut last = Replicas::default();
        for _ in 0..DEADLINE_STEPS {
            last = self.replicas().await;
            if last.ready == replicas && last.asked == replicas {
                return;
            }
            tokio::time::sleep(STEP).await;
        }
        panic!("not {replicas} ready replicas: {last:?}");
    }

    /// Ends the supervisor without a chance to clean up, as kill -9 does.
    pub(crate) async fn drop_abruptly(self) {
        self.task.abort();
        let _ = self.task.await;
    }

    pub(crate) async fn stop_all(self) -> Vec<String> {
        let (reply, answer) = oneshot::channel();
        self.mailbox.send(Command::StopAll { reply }).await.unwrap();
        answer.await.unwrap()
    }
}

const STEP: Duration = Duration::from_millis(20);
const DEADLINE_STEPS: u32 = 3000;

/// Waits until `is_so` holds; fails the test after a generous time.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..DEADLINE_STEPS {
        if is_so() {
            return;
        }
        tokio::time::sleep(STEP).await;
    }
    panic!("never happened: {what}");
}

pub(crate) fn is_alive(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit_once(')').unwrap().1.starts_with(" Z"))
}

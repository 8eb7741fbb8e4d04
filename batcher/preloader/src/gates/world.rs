//! A small cluster for tests: one node of A100-40s, pods that claim one slice each, and a scheduler in a sentence.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimStatus};
use k8s_openapi::jiff::{SignedDuration, Timestamp};
use serde_json::json;
use sluice_config::names::devices::class_of_profile;
use sluice_inventory::{Cluster, Gpu, SliceLayout, allocate, device_classes, resource_slices};

use super::{ClaimIndex, Gated, InFlight, Look, Snapshot, Stage};

/// MIG profiles that the node's GPUs offer.
const PROFILES: [&str; 4] = ["1g.5gb", "2g.10gb", "3g.20gb", "7g.40gb"];

/// The deadline of pods that name none.
pub(crate) const DEADLINE: Duration = Duration::from_secs(300);

/// Everything that the API server has.
#[derive(Debug, Clone)]
pub(crate) struct World {
    pub(crate) pods: Vec<Pod>,
    pub(crate) cluster: Cluster,
    /// The moment from which pods' seconds count.
    pub(crate) start: Timestamp,
}

impl World {
    pub(crate) fn of_gpus(count: u32) -> Self {
        let gpus: Vec<Gpu> = (0..count).map(gpu).collect();
        let cluster = Cluster {
            slices: resource_slices("n", "gpu.sluice.dev", &gpus, SliceLayout::Split, 1).unwrap(),
            device_classes: device_classes("gpu.sluice.dev", &[gpu(0)]),
            ..Cluster::default()
        };
        Self { pods: Vec::new(), cluster, start: Timestamp::now() }
    }

    /// A gated pod that was made `second` seconds after the start, and its claim.
    pub(crate) fn add(&mut self, name: &str, profile: &str, second: i64) -> &mut Pod {
        let uid = format!("uid-{name}-{}", self.pods.len() + self.cluster.claims.len());
        let created = self.start + SignedDuration::from_secs(second);
        let claim = json!({
            "metadata": {
                "namespace": "ns", "name": format!("{name}-slice-x"),
                "annotations": {"resource.kubernetes.io/pod-claim-name": "slice"},
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}],
            },
            "spec": {"devices": {"requests": [
                {"name": "gpu", "exactly": {"deviceClassName": class_of_profile(profile)}},
            ]}},
        });
        let pod = json!({
            "metadata": {
                "namespace": "ns", "name": name, "uid": uid, "creationTimestamp": created.to_string(),
                "labels": {"sluice.dev/inject": "enabled"},
            },
            "spec": {
                "containers": [],
                "schedulingGates": [{"name": "sluice.dev/gpu-preload"}],
                "resourceClaims": [{"name": "slice", "resourceClaimTemplateName": "slice"}],
            },
        });
        self.cluster.claims.push(serde_json::from_value(claim).unwrap());
        self.pods.push(serde_json::from_value(pod).unwrap());
        self.pods.last_mut().unwrap()
    }

    pub(crate) fn pod(&mut self, name: &str) -> &mut Pod {
        self.pods.iter_mut().find(|pod| pod.metadata.name.as_deref() == Some(name)).unwrap()
    }

    pub(crate) fn claim(&mut self, of: &str) -> &mut ResourceClaim {
        let name = format!("{of}-slice-x");
        let mut claims = self.cluster.claims.iter_mut();
        claims.find(|claim| claim.metadata.name.as_deref() == Some(&name)).unwrap()
    }

    pub(crate) fn lift(&mut self, name: &str) {
        self.pod(name).spec.as_mut().unwrap().scheduling_gates = None;
    }

    /// Pod and claim are gone.
    pub(crate) fn remove(&mut self, name: &str) {
        self.pods.retain(|pod| pod.metadata.name.as_deref() != Some(name));
        let claim = format!("{name}-slice-x");
        self.cluster.claims.retain(|one| one.metadata.name.as_deref() != Some(&claim));
    }

    /// Allocates what ungated pods claim, as far as it fits, by priority and age; the result are pods that are
    /// left.
    pub(crate) fn schedule(&mut self) -> Vec<String> {
        let mut ungated: Vec<Pod> =
            self.pods.iter().filter(|pod| Look::of(pod, false).stage == Stage::InFlight).cloned().collect();
        let priority = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0);
        let created = |pod: &Pod| pod.metadata.creation_timestamp.as_ref().map(|at| at.0);
        ungated.sort_by_key(|pod| (Reverse(priority(pod)), created(pod), pod.metadata.name.clone()));
        let mut left = Vec::new();
        for pod in ungated {
            let name = pod.metadata.name.unwrap();
            let claim = self.claim(&name).clone();
            if claim.status.is_some() {
                continue;
            }
            match allocate(&self.cluster, &claim) {
                Ok(allocation) => {
                    let status =
                        ResourceClaimStatus { allocation: Some(allocation.result), ..Default::default() };
                    self.claim(&name).status = Some(status);
                }
                Err(_) => left.push(name),
            }
        }
        left
    }

    /// As a preloader sees it that has just started, `second` seconds after the start.
    pub(crate) fn view(&self, second: i64) -> Snapshot {
        let now = self.start + SignedDuration::from_secs(second);
        let claims = ClaimIndex::new(&self.cluster.claims);
        let mut view = Snapshot { cluster: self.cluster.clone(), ..Snapshot::default() };
        // One set for all, as pods of one specification have it.
        let closed_nodes = Arc::default();
        for pod in &self.pods {
            let mut wants = claims.wants(pod);
            wants.closed_nodes = Arc::clone(&closed_nodes);
            let look = Look::of(pod, false);
            let age = look.age(now);
            let Look { pod: this, priority, created, foreign_gates, .. } = look;
            match look.stage {
                Stage::Gated => view.gated.push(Gated {
                    pod: this,
                    priority,
                    created,
                    wants,
                    foreign_gates,
                    age,
                    deadline: look.deadline.unwrap_or(DEADLINE),
                    unplaceable_for: Duration::ZERO,
                    backs_off: false,
                }),
                Stage::InFlight => view.in_flight.push(InFlight { pod: this, priority, created, wants }),
                Stage::NoConcern => {}
            }
        }
        view
    }
}

fn gpu(minor: u32) -> Gpu {
    sluice_testkit::gpus::a100(minor, &PROFILES)
}

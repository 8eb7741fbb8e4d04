//! Scenarios: what must hold on a real cluster, one file for each subject. A scenario creates a namespace of its own and
//! leaves the cluster as it found it.
//!
//! To add one: write `async fn name(cluster: Cluster) -> Result<()>` in a file here, and a line in [`all`].

mod accounts;
mod cluster_works;
mod conditions;
mod conflicts;
mod driver_life;
mod gates;
mod gateway;
mod model_server;
mod namespace;
mod network;
mod own_registry;
pub(crate) mod pods;
mod refusals;
pub(crate) mod request;
mod rollouts;
pub(crate) mod sample;
mod scaling;
mod serving;
pub(crate) mod shared_slices;
pub(crate) mod slices;

use std::future::Future;
use std::pin::Pin;

use anyhow::Result;

use crate::cluster::Cluster;

pub(crate) use namespace::Namespace;

/// Function of a scenario.
type Run = Box<dyn Fn(Cluster) -> Pin<Box<dyn Future<Output = Result<()>> + Send>> + Send>;

/// One scenario.
pub(crate) struct Scenario {
    /// Sentence that says what holds.
    pub name: &'static str,
    /// Whether it belongs to the core scenarios, which run on every supported release.
    pub is_core: bool,
    /// Whether it needs the image of a third-party model server; ignored without one.
    pub needs_model_server: bool,
    /// Whether it needs NetworkPolicies to be enforced; ignored if they are not.
    pub needs_network_policies: bool,
    /// Whether it sends as much load as the machine can serve, or counts replicas under load: beside another such
    /// scenario it would see that one's load.
    pub is_heavy: bool,
    /// Function that fails if the sentence does not hold.
    pub run: Run,
}

impl Scenario {
    fn new<F, Fut>(name: &'static str, run: F) -> Self
    where
        F: Fn(Cluster) -> Fut + Send + 'static,
        Fut: Future<Output = Result<()>> + Send + 'static,
    {
        Self {
            name,
            is_core: false,
            needs_model_server: false,
            needs_network_policies: false,
            is_heavy: false,
            run: Box::new(move |cluster| Box::pin(run(cluster))),
        }
    }

    fn with_model_server(self) -> Self {
        Self { needs_model_server: true, ..self }
    }

    fn with_network_policies(self) -> Self {
        Self { needs_network_policies: true, ..self }
    }

    fn core(self) -> Self {
        Self { is_core: true, ..self }
    }

    fn heavy(self) -> Self {
        Self { is_heavy: true, ..self }
    }
}

/// Returns all scenarios, in the order in which they run.
pub(crate) fn all() -> Vec<Scenario> {
    vec![
        Scenario::new("a pod reaches another by the name of its service", cluster_works::names_resolve),
        Scenario::new("a simulated node runs only pods that ask for it", cluster_works::simulated_nodes),
        Scenario::new("a cut between pods cuts nothing else", cluster_works::cut_traffic),
        Scenario::new("a pod outlives restarts of kubelet and containerd", cluster_works::restarts),
        Scenario::new("a claim for a MIG slice has an instance while its pod runs", slices::claim).core(),
        Scenario::new("wiped resource slices come back", slices::wiped),
        Scenario::new(
            "a driver killed inside prepare leaves no orphan and the pod runs",
            slices::driver_killed,
        ),
        Scenario::new("slices outlive restarts of kubelet and containerd", slices::node_programs_restarted),
        Scenario::new(
            "a container sees all slices of its claims and requests",
            shared_slices::two_in_one_container,
        ),
        Scenario::new("two pods of one slice start together", shared_slices::two_pods_one_claim),
        Scenario::new("a pod whose GPU and slice are lost is told and moved", shared_slices::gpu_lost),
        Scenario::new(
            "a kubelet killed while a slice is prepared starts the pod when it is back",
            shared_slices::kubelet_killed_in_prepare,
        ),
        Scenario::new(
            "slices are served when NVIDIA's driver comes after the kubelet",
            shared_slices::driver_absent_at_boot,
        ),
        Scenario::new("after a reboot pods run on new slices of their claims", driver_life::reboot),
        Scenario::new(
            "the driver leaves a node while NVIDIA's driver is replaced",
            driver_life::driver_manager,
        ),
        Scenario::new(
            "a wrong device config is refused with the name of its field",
            slices::wrong_device_config,
        ),
        Scenario::new("a wrong autoscaler is refused with the name of its field", refusals::wrong_autoscaler),
        Scenario::new("an ambiguous port is refused with the name of its field", refusals::ambiguous_port),
        Scenario::new("beside an HPA no replicas are written, and it is named", conflicts::beside_an_hpa),
        Scenario::new("an overlapping selector holds the replicas", conflicts::overlapping_selector),
        Scenario::new("zero replicas by hand switch scaling off", conflicts::zero_by_hand),
        Scenario::new(
            "the autoscaler reads targets of other kinds by a labelled role",
            conflicts::readable_targets,
        ),
        Scenario::new("the sample is gated, placed, warmed and serves merged batches", serving::serves)
            .core(),
        Scenario::new("a pod without a slice waits at its gate", gates::waits_for_a_slice).core(),
        Scenario::new(
            "preloader and watchdog change nothing but gates, trust and their own objects",
            accounts::preloader,
        )
        .core(),
        Scenario::new(
            "the autoscaler scales within bounds and a driver writes its own node's slices",
            accounts::autoscaler_and_driver,
        )
        .core(),
        Scenario::new("view and edit hold for InferenceAutoscalers", accounts::users).core(),
        Scenario::new(
            "a namespace with a quota on limits takes the sample, and QoS classes stay",
            accounts::quota,
        ),
        Scenario::new("without a preloader pods start after the gate's deadline", gates::preloader_gone),
        Scenario::new("a rolling update under load loses nothing", serving::rolling_update),
        Scenario::new("a liveness kill of the model loses nothing", serving::liveness_kill),
        Scenario::new("a rollout on a full cluster ends and loses nothing", rollouts::full_cluster).heavy(),
        Scenario::new(
            "a rollout that waits for a slice of its own old pods is named",
            rollouts::full_cluster_at_minimum,
        ),
        Scenario::new(
            "a namespace with a quota on limits is told that the quota is the cause",
            rollouts::quota,
        ),
        Scenario::new("replicas follow the load within the free slices", scaling::follows_load).heavy(),
        Scenario::new(
            "behind a gateway a target comes from zero and returns to it",
            gateway::from_zero_and_back,
        )
        .heavy(),
        Scenario::new(
            "a rolling update of MLServer under load loses nothing and computes nothing twice",
            model_server::rolling_update,
        )
        .with_model_server(),
        Scenario::new(
            "network policies shut every port but to those who need it, and everything works",
            network::policies,
        )
        .heavy()
        .with_network_policies(),
        Scenario::new(
            "an install by the README's commands runs from another registry, the sidecar too",
            own_registry::install_by_the_readme,
        ),
        Scenario::new("another leader takes over without a change", scaling::leader_killed).heavy(),
        Scenario::new("lost metrics hold the replicas", scaling::metrics_lost).heavy(),
    ]
}

//! A platform in memory: replicas are numbers, slices are real ResourceSlices.

use std::sync::Mutex;

use async_trait::async_trait;
use sluice_config::api::inference_autoscaler::Gateway;
use sluice_config::names;
use sluice_inventory::{Cluster, Gpu, SliceLayout};
use sluice_inventory::{device_classes, resource_slices};

use super::{Batcher, Platform, PlatformError, Replicas, ScaleTarget};
use crate::capacity::CapacityView;
use crate::platform::local::claims;

/// The page that the fake's batcher has.
pub(crate) const METRICS_URL: &str = "http://batcher.test/metrics";

/// Replicas are ready as soon as they are asked for.
pub(crate) struct FakePlatform {
    state: Mutex<State>,
}

struct State {
    asked: u32,
    calls: Vec<u32>,
    cluster: Cluster,
}

impl FakePlatform {
    /// `replicas` replicas of one 2g.10gb each on `gpus` simulated A100s, three of which fit on one.
    pub(crate) fn new(gpus: u32, replicas: u32) -> Self {
        let gpus: Vec<Gpu> = (0..gpus).map(a100).collect();
        let cluster = Cluster {
            slices: resource_slices("node", names::DRIVER, &gpus, SliceLayout::Combined, 1).unwrap(),
            device_classes: device_classes(names::DRIVER, &gpus),
            ..Cluster::default()
        };
        let mut state = State { asked: 0, calls: Vec::new(), cluster };
        state.grow_to(replicas);
        Self { state: Mutex::new(state) }
    }

    /// Every call of `set_replicas` so far.
    pub(crate) fn calls(&self) -> Vec<u32> {
        self.state.lock().unwrap().calls.clone()
    }
}

impl State {
    fn grow_to(&mut self, replicas: u32) {
        while self.asked < replicas {
            let name = format!("bert-{}", self.asked);
            let mut claim = claims::new("default", &name, &name, DEVICE_CLASS, "bert");
            let Ok(allocation) = sluice_inventory::allocate(&self.cluster, &claim) else { return };
            claims::allocate_to(&mut claim, allocation.result);
            self.cluster.claims.push(claim);
            self.asked += 1;
        }
    }
}

const DEVICE_CLASS: &str = "mig-2g-10gb.gpu.sluice.dev";

#[async_trait]
impl Platform for FakePlatform {
    async fn replicas(
        &self,
        _target: &ScaleTarget,
        _gateway: Option<&Gateway>,
    ) -> Result<Replicas, PlatformError> {
        let asked = self.state.lock().unwrap().asked;
        Ok(Replicas {
            asked,
            ready: asked,
            startup_ms: Some(1000),
            batchers: vec![Batcher {
                name: "gateway".to_owned(),
                metrics_url: METRICS_URL.to_owned(),
                is_required: true,
                started_ms: None,
            }],
            ..Replicas::default()
        })
    }

    async fn set_replicas(&self, _target: &ScaleTarget, replicas: u32) -> Result<u32, PlatformError> {
        let mut state = self.state.lock().unwrap();
        state.calls.push(replicas);
        state.asked = state.asked.min(replicas);
        let keep = state.asked as usize;
        state.cluster.claims.truncate(keep);
        state.grow_to(replicas);
        Ok(state.asked)
    }

    async fn capacity(&self, _target: &ScaleTarget) -> Result<CapacityView, PlatformError> {
        let state = self.state.lock().unwrap();
        Ok(CapacityView {
            namespace: "default".to_owned(),
            cluster: state.cluster.clone(),
            device_class: Some(DEVICE_CLASS.to_owned()),
            ..CapacityView::default()
        })
    }
}

/// What tests need of a GPU: an A100 of 40 GB that is cut into 2g.10gb alone.
pub(crate) fn a100(minor: u32) -> Gpu {
    sluice_testkit::gpus::a100(minor, &["2g.10gb"])
}

//! Content of the ResourceSlices.

use std::collections::BTreeMap;

use k8s_openapi::api::resource::v1::{DeviceTaint, ResourceSlice};
use sluice_inventory::{Gpu, PublishError, SliceLayout, resource_slices};

use crate::health::{Fault, Mark};
use crate::monitoring;

/// Content to publish.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Publication {
    /// Name of the node.
    pub node: String,
    /// Name of the driver.
    pub driver: String,
    /// GPUs of the node.
    pub gpus: Vec<Gpu>,
    /// Restrictions of devices that are not offered normally, by name.
    pub marks: BTreeMap<String, Mark>,
    /// Whether monitoring devices are published, which need taints.
    pub monitors: bool,
    /// Layout of the slices; `None` asks the store for it.
    pub layout: Option<SliceLayout>,
}

impl Publication {
    /// Returns the slices of one generation of the pool.
    ///
    /// # Errors
    /// Fails if the name of the node or its GPUs cannot be published.
    pub(crate) fn slices(
        &self,
        layout: SliceLayout,
        generation: i64,
    ) -> Result<Vec<ResourceSlice>, PublishError> {
        let mut slices = resource_slices(&self.node, &self.driver, &self.gpus, layout, generation)?;
        for slice in &mut slices {
            let Some(mut devices) = slice.spec.devices.take() else { continue };
            devices.retain(|device| self.marks.get(&device.name) != Some(&Mark::Withheld));
            for device in &mut devices {
                if let Some(Mark::Tainted(fault)) = self.marks.get(&device.name) {
                    device.taints = Some(vec![self.taint(*fault)]);
                }
            }
            slice.spec.devices = (!devices.is_empty()).then_some(devices);
        }
        if self.monitors
            && let Some(slice) = monitoring::slice(&self.node, &self.driver, &self.gpus)?
        {
            slices.push(slice);
        }
        let count = i64::try_from(slices.len()).unwrap_or(i64::MAX);
        for slice in &mut slices {
            slice.spec.pool.generation = generation;
            slice.spec.pool.resource_slice_count = count;
        }
        Ok(slices)
    }

    fn taint(&self, fault: Fault) -> DeviceTaint {
        DeviceTaint {
            key: format!("{}/{}", self.driver, fault.name()),
            value: None,
            effect: if fault.ends_pods() { "NoExecute" } else { "NoSchedule" }.to_owned(),
            time_added: None,
        }
    }

    /// Returns only what needs no counters: GPUs that are not in MIG mode.
    pub(super) fn without_counters(&self) -> Self {
        let gpus = self.gpus.iter().filter(|gpu| !gpu.serves_mig()).cloned().collect();
        Self { gpus, ..self.clone() }
    }

    /// Returns the content for a server that drops taints: devices with a taint are not published.
    pub(super) fn without_taints(&self) -> Self {
        let marks = self.marks.keys().map(|device| (device.clone(), Mark::Withheld)).collect();
        Self { marks, monitors: false, ..self.clone() }
    }
}

/// Returns whether a slice has the desired content. The time of a taint is set by the server and ignored.
pub(super) fn is_same(wanted: &ResourceSlice, existing: &ResourceSlice) -> bool {
    let mut existing = existing.spec.clone();
    let taints = existing.devices.iter_mut().flatten().flat_map(|device| device.taints.iter_mut().flatten());
    taints.for_each(|taint| taint.time_added = None);
    wanted.spec == existing
}

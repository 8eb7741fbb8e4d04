//! Index from the published name of a device to what the driver must create for it.
use std::collections::BTreeMap;

use crate::device::DeviceEntry;
use crate::gpu::Gpu;
use crate::order;

/// Devices that a set of GPUs publishes, by name and in published order.
#[derive(Debug, Clone, Default)]
pub struct DeviceIndex {
    entries: Vec<DeviceEntry>,
    by_name: BTreeMap<String, usize>,
}

impl DeviceIndex {
    /// Indexes what [`resource_slices`](crate::resource_slices) publishes for the same GPUs.
    pub fn new(gpus: &[Gpu]) -> Self {
        let entries: Vec<_> = order::gpus(gpus).into_iter().flat_map(order::devices).collect();
        let by_name = entries.iter().enumerate().map(|(i, e)| (e.name.clone(), i)).collect();
        Self { entries, by_name }
    }

    /// Returns the device of that name; `None` if these GPUs do not publish it.
    pub fn get(&self, name: &str) -> Option<&DeviceEntry> {
        self.by_name.get(name).and_then(|i| self.entries.get(*i))
    }

    /// Iterates over all devices in published order.
    pub fn iter(&self) -> impl Iterator<Item = &DeviceEntry> {
        self.entries.iter()
    }

    /// Returns the number of devices.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Returns whether there are no devices.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

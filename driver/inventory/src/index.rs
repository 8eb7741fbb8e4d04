//! From a device's published name back to what the driver must create for it.
use std::collections::BTreeMap;

use crate::device::DeviceEntry;
use crate::gpu::Gpu;
use crate::order;

/// All devices that the given GPUs publish, by name and in published order.
#[derive(Debug, Clone, Default)]
pub struct DeviceIndex {
    entries: Vec<DeviceEntry>,
    by_name: BTreeMap<String, usize>,
}

impl DeviceIndex {
    /// Index of what [`resource_slices`](crate::resource_slices) publishes for the same GPUs.
    pub fn new(gpus: &[Gpu]) -> Self {
        let entries: Vec<_> = order::gpus(gpus).into_iter().flat_map(order::devices).collect();
        let by_name = entries.iter().enumerate().map(|(i, e)| (e.name.clone(), i)).collect();
        Self { entries, by_name }
    }

    /// The device of that name; `None` if these GPUs publish none.
    pub fn get(&self, name: &str) -> Option<&DeviceEntry> {
        self.by_name.get(name).and_then(|i| self.entries.get(*i))
    }

    /// All devices in published order.
    pub fn iter(&self) -> impl Iterator<Item = &DeviceEntry> {
        self.entries.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

//! Packing of devices and counter sets into slices that keep the API's limits.
use k8s_openapi::api::resource::v1::{
    Counter, CounterSet, Device, DeviceCounterConsumption, ResourcePool, ResourceSlice, ResourceSliceSpec,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use std::collections::BTreeMap;

use crate::device::{DeviceEntry, DeviceKind};
use crate::error::PublishError;
use crate::gpu::Gpu;
use crate::layout::SliceLayout;
use crate::limits;
use crate::{describe, order};
use sluice_config::names::devices as names;

/// Counters and devices of one GPU.
struct Part {
    counters: Option<CounterSet>,
    devices: Vec<Device>,
}

/// Content of one slice.
#[derive(Default)]
struct Content {
    counters: Vec<CounterSet>,
    devices: Vec<Device>,
}

pub(crate) fn slices(
    node: &str,
    driver: &str,
    gpus: &[&Gpu],
    layout: SliceLayout,
    generation: i64,
) -> Result<Vec<ResourceSlice>, PublishError> {
    let mut contents = match layout {
        SliceLayout::Combined => combined(gpus)?,
        SliceLayout::Split => split(gpus),
    };
    if contents.is_empty() {
        contents.push(Content::default());
    }
    let count = contents.len();
    let pool = ResourcePool {
        name: names::pool(node),
        generation,
        resource_slice_count: i64::try_from(count).unwrap_or(i64::MAX),
    };
    let width = count.saturating_sub(1).to_string().len().max(2);
    let name = |i: usize| format!("{node}-{driver}-{i:0width$}");
    Ok(contents
        .into_iter()
        .enumerate()
        .map(|(i, content)| ResourceSlice {
            metadata: ObjectMeta { name: Some(name(i)), ..ObjectMeta::default() },
            spec: ResourceSliceSpec {
                driver: driver.to_owned(),
                pool: pool.clone(),
                node_name: Some(node.to_owned()),
                shared_counters: (!content.counters.is_empty()).then_some(content.counters),
                devices: (!content.devices.is_empty()).then_some(content.devices),
                ..ResourceSliceSpec::default()
            },
        })
        .collect())
}

/// Packs for Kubernetes 1.34: the counters and devices of a GPU share a slice, and GPUs are added to it while the
/// limits allow.
fn combined(gpus: &[&Gpu]) -> Result<Vec<Content>, PublishError> {
    let mut contents: Vec<Content> = Vec::new();
    for gpu in gpus {
        let part = part(gpu);
        if part.devices.len() > limits::DEVICES_PER_SLICE {
            return Err(PublishError::TooManyDevices {
                minor: gpu.minor,
                devices: part.devices.len(),
                limit: limits::DEVICES_PER_SLICE,
            });
        }
        match contents.last_mut().filter(|last| fits_combined(last, &part)) {
            Some(last) => {
                last.counters.extend(part.counters);
                last.devices.extend(part.devices);
            }
            None => contents
                .push(Content { counters: part.counters.into_iter().collect(), devices: part.devices }),
        }
    }
    Ok(contents)
}

fn fits_combined(content: &Content, part: &Part) -> bool {
    let counters =
        |sets: &mut dyn Iterator<Item = &CounterSet>| sets.map(|s| s.counters.len()).sum::<usize>();
    let consumed = |devices: &[Device]| devices.iter().map(consumed_counters).sum::<usize>();
    content.devices.len() + part.devices.len() <= limits::DEVICES_PER_SLICE
        && content.counters.len() + usize::from(part.counters.is_some()) <= limits::COUNTER_SETS_PER_SLICE
        && counters(&mut content.counters.iter()) + counters(&mut part.counters.iter())
            <= limits::COUNTERS_PER_SLICE_COMBINED
        && consumed(&content.devices) + consumed(&part.devices) <= limits::CONSUMED_COUNTERS_PER_SLICE
}

/// Packs for Kubernetes ≥ 1.35: slices of counter sets first, then slices of devices.
fn split(gpus: &[&Gpu]) -> Vec<Content> {
    let mut sets: Vec<CounterSet> = Vec::new();
    let mut device_slices: Vec<Vec<Device>> = Vec::new();
    for gpu in gpus {
        let part = part(gpu);
        sets.extend(part.counters);
        // A GPU starts a new slice instead of being divided between two, unless it fills a slice alone.
        let fits_last = device_slices
            .last()
            .is_some_and(|last| last.len() + part.devices.len() <= limits::DEVICES_PER_SLICE);
        let mut devices = part.devices.into_iter().peekable();
        if fits_last && let Some(last) = device_slices.last_mut() {
            last.extend(devices);
        } else {
            while devices.peek().is_some() {
                device_slices.push(devices.by_ref().take(limits::DEVICES_PER_SLICE).collect());
            }
        }
    }
    let counters = sets
        .chunks(limits::COUNTER_SETS_PER_SLICE)
        .map(|sets| Content { counters: sets.to_vec(), devices: Vec::new() });
    let devices = device_slices.into_iter().map(|devices| Content { counters: Vec::new(), devices });
    counters.chain(devices).collect()
}

fn part(gpu: &Gpu) -> Part {
    let with_counters = gpu.serves_mig();
    Part {
        counters: with_counters
            .then(|| CounterSet { name: names::counter_set(gpu.minor), counters: all_counters(gpu) }),
        devices: order::devices(gpu).into_iter().map(|entry| device(gpu, &entry, with_counters)).collect(),
    }
}

fn device(gpu: &Gpu, entry: &DeviceEntry, with_counters: bool) -> Device {
    let (attributes, capacity) = describe::device(gpu, entry);
    let counters = match &entry.kind {
        DeviceKind::Full => all_counters(gpu),
        DeviceKind::Mig { profile_id, placement, .. } => {
            let media =
                gpu.mig_profiles.iter().any(|p| p.profile_id == *profile_id && p.has_media_extensions);
            let slices = placement.slices().map(names::memory_slice_counter);
            slices.chain(media.then(|| names::MEDIA_EXTENSIONS_COUNTER.to_owned())).map(one).collect()
        }
    };
    Device {
        name: entry.name.clone(),
        attributes: Some(attributes),
        capacity: Some(capacity),
        consumes_counters: with_counters
            .then(|| vec![DeviceCounterConsumption { counter_set: names::counter_set(gpu.minor), counters }]),
        ..Device::default()
    }
}

fn all_counters(gpu: &Gpu) -> BTreeMap<String, Counter> {
    let slices = (0..gpu.memory_slices).map(names::memory_slice_counter);
    slices.chain([names::MEDIA_EXTENSIONS_COUNTER.to_owned()]).map(one).collect()
}

fn one(counter: String) -> (String, Counter) {
    (counter, Counter { value: Quantity("1".to_owned()) })
}

fn consumed_counters(device: &Device) -> usize {
    device.consumes_counters.iter().flatten().map(|c| c.counters.len()).sum()
}

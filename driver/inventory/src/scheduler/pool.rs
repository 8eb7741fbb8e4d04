//! Pools as one node sees them: the newest generation, complete, valid, in the scheduler's order.
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::resource::v1::{Device, ResourceSlice};
use std::collections::{BTreeMap, HashMap, HashSet};

use super::node::is_named;
use super::{DeviceId, Features, Reason};
use crate::quantity;

/// A pool as one node sees it.
pub(super) struct Pool<'a> {
    pub(super) driver: &'a str,
    pub(super) name: &'a str,
    pub(super) usable: Usable,
    /// Devices of the slices that are for this node, in the order in which they are tried.
    pub(super) devices: Vec<Candidate<'a>>,
    /// Devices of the pool's other slices: those that are held draw on the counters too.
    pub(super) elsewhere: Vec<Candidate<'a>>,
    /// Total of each counter, in nano-units.
    pub(super) counters: Vec<i128>,
}

/// Whether devices may be taken from a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Usable {
    Yes,
    /// The pool is being updated: not all of its slices exist.
    Incomplete,
    /// The pool's slices contradict each other; no later slice will change that.
    Invalid,
}

/// A device that a node may be able to use.
pub(super) struct Candidate<'a> {
    pub(super) id: DeviceId<'a>,
    pub(super) device: &'a Device,
    /// Whether the device itself, not its slice, names its nodes.
    pub(super) chooses_nodes: bool,
    /// Counters that the device draws on: index into [`Pool::counters`], and amount in nano-units.
    pub(super) draws: Vec<(usize, i128)>,
}

type Slices<'a> = Vec<&'a ResourceSlice>;

/// Gathers the pools that have slices for a node.
///
/// # Errors
/// A node selector is not valid.
pub(super) fn gather<'a>(
    features: Features,
    slices: &'a [ResourceSlice],
    node: &Node,
) -> Result<Vec<Pool<'a>>, Reason> {
    let mut by_pool: BTreeMap<(&str, &str), Slices<'a>> = BTreeMap::new();
    for slice in slices {
        let is_partitioned = slice.spec.per_device_node_selection.is_some()
            || slice.spec.shared_counters.as_ref().is_some_and(|s| !s.is_empty());
        if !features.partitionable_devices && is_partitioned {
            continue;
        }
        if !concerns(slice, node)? {
            continue;
        }
        let pool = by_pool.entry((&slice.spec.driver, &slice.spec.pool.name)).or_default();
        match pool.first().map(|first| slice.spec.pool.generation.cmp(&first.spec.pool.generation)) {
            Some(std::cmp::Ordering::Less) => {}
            Some(std::cmp::Ordering::Greater) => *pool = vec![slice],
            _ => pool.push(slice),
        }
    }
    let mut pools: Vec<Pool<'a>> =
        by_pool.into_values().filter_map(|of_node| build(features, slices, of_node)).collect();
    // The order is by driver and name; pools with devices that must be bound come last.
    pools.sort_by_key(|pool| {
        pool.devices.iter().any(|candidate| candidate.device.binding_conditions.is_some())
    });
    Ok(pools)
}

fn name_of(slice: &ResourceSlice) -> &str {
    slice.metadata.name.as_deref().unwrap_or_default()
}

/// Returns whether a slice, or one of its devices, is for a node.
fn concerns(slice: &ResourceSlice, node: &Node) -> Result<bool, Reason> {
    let spec = &slice.spec;
    let has_name = spec.node_name.as_ref().is_some_and(|name| !name.is_empty());
    if has_name || spec.all_nodes == Some(true) || spec.node_selector.is_some() {
        return is_named(node, spec.node_name.as_deref(), spec.all_nodes, spec.node_selector.as_ref());
    }
    if spec.per_device_node_selection == Some(true) {
        for device in spec.devices.iter().flatten() {
            if device_is_for(device, node)? {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

/// Returns whether a device that names its nodes itself is for a node.
pub(super) fn device_is_for(device: &Device, node: &Node) -> Result<bool, Reason> {
    is_named(node, device.node_name.as_deref(), device.all_nodes, device.node_selector.as_ref())
}

/// Builds a pool from its slices for the node. Returns `None` where these are of a generation that is being replaced.
fn build<'a>(features: Features, all: &'a [ResourceSlice], mut of_node: Slices<'a>) -> Option<Pool<'a>> {
    let first = &of_node.first()?.spec;
    let (driver, name, generation) = (first.driver.as_str(), first.pool.name.as_str(), first.pool.generation);
    let expected = usize::try_from(first.pool.resource_slice_count).unwrap_or(usize::MAX);
    let mut pool = Pool {
        driver,
        name,
        usable: Usable::Yes,
        devices: Vec::new(),
        elsewhere: Vec::new(),
        counters: Vec::new(),
    };
    let mut others = Slices::new();
    if of_node.len() != expected {
        let of_pool = all.iter().filter(|slice| slice.spec.driver == driver && slice.spec.pool.name == name);
        if of_pool.clone().any(|slice| slice.spec.pool.generation > generation) {
            return None;
        }
        let of_pool: Slices<'a> = of_pool.filter(|slice| slice.spec.pool.generation == generation).collect();
        if of_pool.len() != expected {
            pool.usable = Usable::Incomplete;
            return Some(pool);
        }
        others = of_pool;
        let names: HashSet<&str> = of_node.iter().map(|slice| name_of(slice)).collect();
        others.retain(|slice| !names.contains(name_of(slice)));
    }
    of_node.sort_by_key(|slice| name_of(slice));
    if fill(features, &mut pool, &of_node, &others).is_none() {
        pool.usable = Usable::Invalid;
    }
    Some(pool)
}

/// Reads counters and devices into the pool. Returns `None` where they contradict each other.
fn fill<'a>(
    features: Features,
    pool: &mut Pool<'a>,
    of_node: &[&'a ResourceSlice],
    others: &[&'a ResourceSlice],
) -> Option<()> {
    let has_counters = |slice: &&&'a ResourceSlice| {
        features.partitionable_devices
            && slice.spec.shared_counters.as_ref().is_some_and(|sets| !sets.is_empty())
    };
    let mut index: HashMap<(&str, &str), usize> = HashMap::new();
    let mut sets = HashSet::new();
    for slice in of_node.iter().chain(others).filter(has_counters) {
        for set in slice.spec.shared_counters.iter().flatten() {
            if !sets.insert(set.name.as_str()) {
                return None;
            }
            for (name, counter) in &set.counters {
                index.insert((&set.name, name), pool.counters.len());
                pool.counters.push(quantity::nano(&counter.value.0)?);
            }
        }
    }
    let candidate = |slice: &'a ResourceSlice, device: &'a Device| {
        let mut draws = Vec::new();
        for consumption in
            device.consumes_counters.iter().flatten().filter(|_| features.partitionable_devices)
        {
            if !sets.contains(consumption.counter_set.as_str()) {
                return None;
            }
            for (name, counter) in &consumption.counters {
                let counter_index = *index.get(&(consumption.counter_set.as_str(), name.as_str()))?;
                draws.push((counter_index, quantity::nano(&counter.value.0)?));
            }
        }
        let id = (slice.spec.driver.as_str(), slice.spec.pool.name.as_str(), device.name.as_str());
        Some(Candidate {
            id,
            device,
            chooses_nodes: slice.spec.per_device_node_selection == Some(true),
            draws,
        })
    };
    let mut names = HashSet::new();
    for slice in of_node.iter().filter(|slice| !has_counters(slice)) {
        for device in slice.spec.devices.iter().flatten() {
            if !names.insert(device.name.as_str()) {
                return None;
            }
            pool.devices.push(candidate(slice, device)?);
        }
    }
    for slice in others.iter().filter(|slice| !has_counters(slice)) {
        for device in slice.spec.devices.iter().flatten() {
            pool.elsewhere.push(candidate(slice, device)?);
        }
    }
    Some(())
}

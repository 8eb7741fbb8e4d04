//! Pools as the scheduler gathers them, in its order: only the newest generation, and only if it is complete.
use k8s_openapi::api::core::v1::NodeSelector;
use k8s_openapi::api::resource::v1::{Device, ResourceSlice};
use std::collections::{BTreeMap, BTreeSet};

use crate::quantity;

/// Nodes from which a device can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NodeScope {
    /// Only these nodes.
    Nodes(Vec<String>),
    /// Every node.
    Anywhere,
    /// A selector over node labels, which this crate does not know.
    Unknown,
}

impl NodeScope {
    pub(crate) fn reaches(&self, node: Option<&str>) -> bool {
        match self {
            Self::Nodes(nodes) => node.is_some_and(|node| nodes.iter().any(|n| n == node)),
            Self::Anywhere => true,
            Self::Unknown => false,
        }
    }
}

/// Published device with the counters that it consumes.
#[derive(Debug, Clone)]
pub(crate) struct PoolDevice<'a> {
    pub(crate) object: &'a Device,
    pub(crate) nodes: NodeScope,
    /// Consumed counters: index into [`Pool::counters`], and amount in nano-units.
    pub(crate) draws: Vec<(usize, i128)>,
}

/// Shared counter of a pool.
#[derive(Debug, Clone)]
pub(crate) struct SharedCounter<'a> {
    pub(crate) set: &'a str,
    pub(crate) name: &'a str,
    /// Total amount in nano-units.
    pub(crate) total: i128,
}

/// Pool of devices.
#[derive(Debug, Clone)]
pub(crate) struct Pool<'a> {
    pub(crate) driver: &'a str,
    pub(crate) name: &'a str,
    pub(crate) generation: i64,
    /// Reason why nothing may be allocated from the pool; `None` if it is usable.
    pub(crate) unusable: Option<String>,
    pub(crate) devices: Vec<PoolDevice<'a>>,
    pub(crate) counters: Vec<SharedCounter<'a>>,
}

/// Reason why the content of a pool is invalid.
#[derive(Debug, thiserror::Error)]
enum InvalidPool {
    #[error("invalid: counter set {set} is published twice")]
    DuplicateSet { set: String },
    #[error("invalid: counter {counter} of set {set} is {value:?}")]
    CounterValue { counter: String, set: String, value: String },
    #[error("invalid: device {device} is published twice")]
    DuplicateDevice { device: String },
    #[error(
        "invalid: device {device} draws {value:?} on counter {counter} of set {set}, which is not published"
    )]
    UnknownCounter { device: String, value: String, counter: String, set: String },
}

impl Pool<'_> {
    /// Returns the node of a pool whose devices are all on one node.
    pub(crate) fn node(&self) -> Option<&str> {
        let mut nodes = self.devices.iter().map(|device| match &device.nodes {
            NodeScope::Nodes(nodes) if nodes.len() == 1 => nodes.first().map(String::as_str),
            _ => None,
        });
        let first = nodes.next()??;
        nodes.all(|node| node == Some(first)).then_some(first)
    }
}

/// Gathers all pools in the scheduler's order (Kubernetes ≥ 1.36): by driver and pool name, but pools whose devices
/// have binding conditions last. Slices are in order of their names, devices as listed.
pub(crate) fn gather(slices: &[ResourceSlice]) -> Vec<Pool<'_>> {
    let mut by_pool: BTreeMap<(&str, &str), Vec<&ResourceSlice>> = BTreeMap::new();
    for slice in slices {
        by_pool.entry((&slice.spec.driver, &slice.spec.pool.name)).or_default().push(slice);
    }
    let mut pools: Vec<_> = by_pool.into_iter().map(|((driver, name), s)| pool(driver, name, s)).collect();
    let binds = |pool: &Pool<'_>| {
        pool.devices.iter().any(|d| d.object.binding_conditions.as_ref().is_some_and(|c| !c.is_empty()))
    };
    pools.sort_by_key(binds);
    pools
}

fn pool<'a>(driver: &'a str, name: &'a str, mut slices: Vec<&'a ResourceSlice>) -> Pool<'a> {
    let generation = slices.iter().map(|s| s.spec.pool.generation).max().unwrap_or(0);
    slices.retain(|s| s.spec.pool.generation == generation);
    slices.sort_by(|a, b| a.metadata.name.cmp(&b.metadata.name));
    let expected = slices.iter().map(|s| s.spec.pool.resource_slice_count).max().unwrap_or(0);
    let mut unusable = None;
    if i64::try_from(slices.len()) != Ok(expected) {
        unusable =
            Some(format!("incomplete: {} of {expected} slices of generation {generation}", slices.len()));
    }
    let mut pool = Pool { driver, name, generation, unusable, devices: Vec::new(), counters: Vec::new() };
    let fill = fill(&mut pool, &slices);
    // A pool that is still being written may lack its counters: "incomplete" is the better reason than "invalid".
    if pool.unusable.is_none() {
        pool.unusable = fill.err().map(|invalid| invalid.to_string());
    }
    pool
}

/// Reads the counters and devices of a pool.
///
/// # Errors
/// Returns what makes the pool invalid; all of it that can be read is in `pool` all the same.
fn fill<'a>(pool: &mut Pool<'a>, slices: &[&'a ResourceSlice]) -> Result<(), InvalidPool> {
    let mut invalid = Ok(());
    let mut index: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut sets: BTreeSet<&str> = BTreeSet::new();
    for set in slices.iter().flat_map(|s| s.spec.shared_counters.iter().flatten()) {
        if !sets.insert(&set.name) {
            invalid = Err(InvalidPool::DuplicateSet { set: set.name.clone() });
        }
        for (name, counter) in &set.counters {
            let Some(total) = quantity::nano(&counter.value.0) else {
                invalid = Err(InvalidPool::CounterValue {
                    counter: name.clone(),
                    set: set.name.clone(),
                    value: counter.value.0.clone(),
                });
                continue;
            };
            index.insert((&set.name, name), pool.counters.len());
            pool.counters.push(SharedCounter { set: &set.name, name, total });
        }
    }
    let mut devices: BTreeSet<&str> = BTreeSet::new();
    for slice in slices {
        for device in slice.spec.devices.iter().flatten() {
            if !devices.insert(&device.name) {
                invalid = Err(InvalidPool::DuplicateDevice { device: device.name.clone() });
            }
            let mut draws = Vec::new();
            for consumption in device.consumes_counters.iter().flatten() {
                for (name, counter) in &consumption.counters {
                    let known = index.get(&(consumption.counter_set.as_str(), name.as_str()));
                    match (known, quantity::nano(&counter.value.0)) {
                        (Some(&i), Some(amount)) => draws.push((i, amount)),
                        _ => {
                            invalid = Err(InvalidPool::UnknownCounter {
                                device: device.name.clone(),
                                value: counter.value.0.clone(),
                                counter: name.clone(),
                                set: consumption.counter_set.clone(),
                            });
                        }
                    }
                }
            }
            pool.devices.push(PoolDevice { object: device, nodes: node_scope(slice, device), draws });
        }
    }
    invalid
}

/// Returns the names of the nodes that slices, or their devices, are for by name. None of them need exist.
pub fn nodes_named(slices: &[ResourceSlice]) -> BTreeSet<String> {
    let mut named = BTreeSet::new();
    for slice in slices {
        let mut scopes: Vec<NodeScope> = Vec::new();
        if slice.spec.per_device_node_selection == Some(true) {
            scopes.extend(slice.spec.devices.iter().flatten().map(|device| node_scope(slice, device)));
        } else {
            let spec = &slice.spec;
            scopes.push(from(spec.node_name.as_ref(), spec.all_nodes, spec.node_selector.as_ref()));
        }
        for scope in scopes {
            if let NodeScope::Nodes(names) = scope {
                named.extend(names);
            }
        }
    }
    named
}

fn node_scope(slice: &ResourceSlice, device: &Device) -> NodeScope {
    let spec = &slice.spec;
    if spec.per_device_node_selection == Some(true) {
        from(device.node_name.as_ref(), device.all_nodes, device.node_selector.as_ref())
    } else {
        from(spec.node_name.as_ref(), spec.all_nodes, spec.node_selector.as_ref())
    }
}

fn from(node: Option<&String>, all: Option<bool>, selector: Option<&NodeSelector>) -> NodeScope {
    if let Some(node) = node {
        return NodeScope::Nodes(vec![node.clone()]);
    }
    if all == Some(true) {
        return NodeScope::Anywhere;
    }
    // A selector by node name can be evaluated without node labels.
    let names = selector.map(|s| s.node_selector_terms.as_slice()).and_then(|terms| match terms {
        [term] if term.match_expressions.as_ref().is_none_or(Vec::is_empty) => {
            match term.match_fields.as_deref() {
                Some([field]) if field.key == "metadata.name" && field.operator == "In" => {
                    field.values.clone()
                }
                _ => None,
            }
        }
        _ => None,
    });
    names.map_or(NodeScope::Unknown, NodeScope::Nodes)
}

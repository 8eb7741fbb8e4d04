//! Pools as the scheduler gathers them: newest generation only, complete or nothing, in its order.
use k8s_openapi::api::core::v1::NodeSelector;
use k8s_openapi::api::resource::v1::{Device, ResourceSlice};
use std::collections::{BTreeMap, BTreeSet};

use crate::quantity;

/// From which nodes a device can be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum NodeScope {
    /// These nodes.
    Nodes(Vec<String>),
    /// Every node.
    Anywhere,
    /// A selector over node labels, which are not known here.
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

/// A published device and what it draws on.
#[derive(Debug, Clone)]
pub(crate) struct PoolDevice<'a> {
    pub(crate) object: &'a Device,
    pub(crate) nodes: NodeScope,
    /// (index into [`Pool::counters`], amount in nano-units).
    pub(crate) draws: Vec<(usize, i128)>,
}

/// One shared counter.
#[derive(Debug, Clone)]
pub(crate) struct SharedCounter<'a> {
    pub(crate) set: &'a str,
    pub(crate) name: &'a str,
    /// In nano-units.
    pub(crate) total: i128,
}

/// One pool.
#[derive(Debug, Clone)]
pub(crate) struct Pool<'a> {
    pub(crate) driver: &'a str,
    pub(crate) name: &'a str,
    pub(crate) generation: i64,
    /// Why nothing may be allocated from it.
    pub(crate) unusable: Option<String>,
    pub(crate) devices: Vec<PoolDevice<'a>>,
    pub(crate) counters: Vec<SharedCounter<'a>>,
}

impl Pool<'_> {
    /// The one node that all of its devices are on.
    pub(crate) fn node(&self) -> Option<&str> {
        let mut nodes = self.devices.iter().map(|device| match &device.nodes {
            NodeScope::Nodes(nodes) if nodes.len() == 1 => nodes.first().map(String::as_str),
            _ => None,
        });
        let first = nodes.next()??;
        nodes.all(|node| node == Some(first)).then_some(first)
    }
}

/// All pools in the scheduler's order (Kubernetes ≥ 1.36): those whose devices have binding conditions
/// last, then by driver and pool name; slices by name; devices as listed.
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
    // A pool that is still being written may lack its counters: incomplete says more than invalid.
    if pool.unusable.is_none() {
        pool.unusable = fill.err();
    }
    pool
}

/// Reads counters and devices; the error says what makes the pool invalid.
fn fill<'a>(pool: &mut Pool<'a>, slices: &[&'a ResourceSlice]) -> Result<(), String> {
    let mut invalid = Ok(());
    let mut index: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    let mut sets: BTreeSet<&str> = BTreeSet::new();
    for set in slices.iter().flat_map(|s| s.spec.shared_counters.iter().flatten()) {
        if !sets.insert(&set.name) {
            invalid = Err(format!("invalid: counter set {} is published twice", set.name));
        }
        for (name, counter) in &set.counters {
            let Some(total) = quantity::nano(&counter.value.0) else {
                invalid =
                    Err(format!("invalid: counter {name} of set {} is {:?}", set.name, counter.value.0));
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
                invalid = Err(format!("invalid: device {} is published twice", device.name));
            }
            let mut draws = Vec::new();
            for consumption in device.consumes_counters.iter().flatten() {
                for (name, counter) in &consumption.counters {
                    let known = index.get(&(consumption.counter_set.as_str(), name.as_str()));
                    match (known, quantity::nano(&counter.value.0)) {
                        (Some(&i), Some(amount)) => draws.push((i, amount)),
                        _ => {
                            invalid = Err(format!(
                                "invalid: device {} draws {:?} on counter {name} of set {}, which is not published",
                                device.name, counter.value.0, consumption.counter_set
                            ));
                        }
                    }
                }
            }
            pool.devices.push(PoolDevice { object: device, nodes: node_scope(slice, device), draws });
        }
    }
    invalid
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
    // A selector by node name can be answered without node labels.
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

//! Allocation of devices to one claim, as the scheduler's structured allocator does it.
//!
//! The search is depth-first and takes the first fit, without scoring: pools in order of driver and name, slices by
//! name, devices as listed (Kubernetes ≥ 1.36; older versions do not sort pools and slices). Nodes are tried in the
//! order of their pools. Which of several feasible nodes a pod really gets is decided by the rest of the scheduler.
use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};
use k8s_openapi::api::resource::v1::{
    AllocationResult, DeviceAllocationConfiguration, DeviceAllocationResult, DeviceRequestAllocationResult,
    ResourceClaim,
};

use crate::cluster::Cluster;
use crate::error::AllocationError;
use crate::ledger;
use crate::pools::NodeScope;
use crate::reason;
use crate::request::{self, Request};
use crate::search::{Found, Search};
use crate::view::View;

/// Devices that were allocated to a claim.
#[derive(Debug, Clone, PartialEq)]
pub struct Allocation {
    /// Value for the claim's `status.allocation`, as the scheduler writes it, without a timestamp.
    pub result: AllocationResult,
    /// Node that the allocation binds the pod to; `None` for devices that every node reaches.
    pub node: Option<String>,
}

/// Allocates the first devices that fit a claim which has no allocation yet.
///
/// # Errors
/// Returns an [`AllocationError`]. `NoFit` may go away with time, the others do not.
pub fn allocate(cluster: &Cluster, claim: &ResourceClaim) -> Result<Allocation, AllocationError> {
    if claim.status.as_ref().is_some_and(|s| s.allocation.is_some()) {
        return Err(AllocationError::AlreadyAllocated { claim: ledger::name(claim) });
    }
    let (requests, matches) = request::of_claim(cluster, claim)?;
    // The users of the claim read the reason.
    let (mut view, mut ledger) = View::seen_from(cluster, claim.metadata.namespace.as_deref());
    let eligible: Vec<_> = requests.iter().map(|request| view.eligible(request)).collect();
    let search = Search { view: &view, requests: &requests, eligible: &eligible, matches: &matches };
    let found = view
        .nodes
        .iter()
        .find_map(|node| search.on_node(&mut ledger, node.as_deref()).map(|found| (node.clone(), found)));
    match found {
        Some((node, found)) => Ok(result(&view, claim, &requests, node, &found)),
        None => Err(AllocationError::NoFit { reason: reason::no_fit(&view, &ledger, &requests, &eligible) }),
    }
}

fn result(
    view: &View<'_>,
    claim: &ResourceClaim,
    requests: &[Request<'_>],
    node: Option<String>,
    found: &Found,
) -> Allocation {
    let results = found.iter().map(|&(request, (pool, device))| {
        let (request, pool) = (&requests[request], &view.pools[pool]);
        let device = pool.devices[device].object;
        DeviceRequestAllocationResult {
            request: request.name.clone(),
            driver: pool.driver.to_owned(),
            pool: pool.name.to_owned(),
            device: device.name.clone(),
            tolerations: (!request.tolerations.is_empty()).then(|| request.tolerations.clone()),
            binding_conditions: device.binding_conditions.clone(),
            binding_failure_conditions: device.binding_failure_conditions.clone(),
            ..DeviceRequestAllocationResult::default()
        }
    });
    let results: Vec<_> = results.collect();
    let local = found
        .iter()
        .any(|&(_, (pool, device))| view.pools[pool].devices[device].nodes != NodeScope::Anywhere);
    let node = node.filter(|_| local);
    let config = configuration(claim, requests);
    Allocation {
        result: AllocationResult {
            allocation_timestamp: None,
            devices: Some(DeviceAllocationResult {
                config: (!config.is_empty()).then_some(config),
                results: Some(results),
            }),
            node_selector: node.as_deref().map(on_node),
        },
        node,
    }
}

/// Returns the opaque configuration of the classes, then that of the claim, which overrides it.
fn configuration(claim: &ResourceClaim, requests: &[Request<'_>]) -> Vec<DeviceAllocationConfiguration> {
    let of_classes = requests.iter().flat_map(|request| {
        request.class.spec.config.iter().flatten().map(|config| DeviceAllocationConfiguration {
            source: "FromClass".to_owned(),
            requests: Some(vec![request.name.clone()]),
            opaque: config.opaque.clone(),
        })
    });
    let of_claim = claim.spec.devices.iter().flat_map(|d| d.config.iter().flatten());
    let of_claim = of_claim.map(|config| DeviceAllocationConfiguration {
        source: "FromClaim".to_owned(),
        requests: config.requests.clone(),
        opaque: config.opaque.clone(),
    });
    of_classes.chain(of_claim).collect()
}

/// Returns the node selector that the scheduler writes for devices of one node.
fn on_node(node: &str) -> NodeSelector {
    NodeSelector {
        node_selector_terms: vec![NodeSelectorTerm {
            match_expressions: None,
            match_fields: Some(vec![NodeSelectorRequirement {
                key: "metadata.name".to_owned(),
                operator: "In".to_owned(),
                values: Some(vec![node.to_owned()]),
            }]),
        }],
    }
}

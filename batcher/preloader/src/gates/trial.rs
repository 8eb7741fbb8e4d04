//! Places claims on a copy of the cluster, as the scheduler would place them one after another.

use std::collections::BTreeSet;

use k8s_openapi::api::resource::v1::{ResourceClaim, ResourceClaimStatus};
use sluice_inventory::{AllocationError, Cluster, allocate};

use super::Wants;

/// A copy of the cluster, with the claims that were placed on trial.
pub(super) struct AllocationTrial {
    cluster: Cluster,
    /// Number of real claims; later ones were placed on trial.
    real: usize,
}

impl AllocationTrial {
    pub(super) fn new(cluster: &Cluster) -> Self {
        Self { cluster: cluster.clone(), real: cluster.claims.len() }
    }

    /// Returns the nodes that are closed to all pods.
    pub(super) fn closed_to_all(&self) -> &BTreeSet<String> {
        &self.cluster.unschedulable_nodes
    }

    /// Places all claims of a pod on one node, or none of them.
    pub(super) fn place(&mut self, wants: &Wants) -> Result<(), AllocationError> {
        let before = self.cluster.claims.len();
        self.place_without(wants, &wants.closed_nodes).inspect_err(|_| self.cluster.claims.truncate(before))
    }

    /// Undoes placements down to `placed_before`, an earlier value of [`placed`](Self::placed).
    pub(super) fn take_back(&mut self, placed_before: usize) {
        self.cluster.claims.truncate(self.real + placed_before);
    }

    /// Returns the number of claims placed on trial.
    pub(super) fn placed(&self) -> usize {
        self.cluster.claims.len() - self.real
    }

    /// Checks that the pod could be placed if all allocated devices became free; with `beside_the_placed`, all but those
    /// placed on trial. Closed nodes count as open, because they open again.
    pub(super) fn could_ever_place(
        &mut self,
        wants: &Wants,
        beside_the_placed: bool,
    ) -> Result<(), AllocationError> {
        let kept = if beside_the_placed { self.cluster.claims[self.real..].to_vec() } else { Vec::new() };
        let claims = std::mem::replace(&mut self.cluster.claims, kept);
        let excluded = wants.closed_nodes.difference(self.closed_to_all()).cloned().collect();
        let result = self.place_without(wants, &excluded);
        self.cluster.claims = claims;
        result
    }

    fn place_without(&mut self, wants: &Wants, closed: &BTreeSet<String>) -> Result<(), AllocationError> {
        let wanted: Vec<&ResourceClaim> =
            wants.claims.iter().filter(|claim| !self.was_placed(claim)).collect();
        if let [_, _, ..] = wanted[..] {
            // Placed one after another they might land on different nodes.
            return self.place_on_one_node(&wanted, closed);
        }
        self.place_each(&wanted, closed)
    }

    fn place_on_one_node(
        &mut self,
        wanted: &[&ResourceClaim],
        closed: &BTreeSet<String>,
    ) -> Result<(), AllocationError> {
        let nodes: BTreeSet<String> =
            self.cluster.slices.iter().filter_map(|slice| slice.spec.node_name.clone()).collect();
        let before = self.cluster.claims.len();
        let mut last = None;
        for node in nodes.difference(closed) {
            let others: BTreeSet<String> =
                nodes.iter().filter(|other| *other != node).chain(closed).cloned().collect();
            match self.place_each(wanted, &others) {
                Ok(()) => return Ok(()),
                Err(refusal) => last = Some(refusal),
            }
            self.cluster.claims.truncate(before);
        }
        match last {
            Some(refusal) => Err(refusal),
            // Devices that belong to no node, or none at all.
            None => self.place_each(wanted, closed),
        }
    }

    fn place_each(
        &mut self,
        wanted: &[&ResourceClaim],
        closed: &BTreeSet<String>,
    ) -> Result<(), AllocationError> {
        let open = std::mem::replace(&mut self.cluster.unschedulable_nodes, closed.clone());
        let result = wanted.iter().try_for_each(|claim| {
            let allocation = allocate(&self.cluster, claim)?;
            let status = ResourceClaimStatus { allocation: Some(allocation.result), ..Default::default() };
            self.cluster.claims.push(ResourceClaim { status: Some(status), ..ResourceClaim::clone(claim) });
            Ok(())
        });
        self.cluster.unschedulable_nodes = open;
        result
    }

    /// Returns whether the claim was placed on trial before: one that several pods share is placed once.
    fn was_placed(&self, claim: &ResourceClaim) -> bool {
        let same = |other: &ResourceClaim| {
            other.metadata.namespace == claim.metadata.namespace && other.metadata.name == claim.metadata.name
        };
        let placed = self.cluster.claims.iter().rev();
        placed.take_while(|claim| is_allocated(claim)).any(same)
    }
}

/// Returns whether a claim has its devices.
pub(super) fn is_allocated(claim: &ResourceClaim) -> bool {
    claim.status.as_ref().is_some_and(|status| status.allocation.is_some())
}

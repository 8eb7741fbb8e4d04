//! Devices that an attempt has picked so far, and what they take: counters, capacity, values under constraints. What
//! was picked last can be put back.
use k8s_openapi::api::resource::v1::{DeviceTaint, DeviceToleration};
use std::collections::BTreeMap;

use super::constraint::Values;
use super::held::{Held, Holding};
use super::pool::{Candidate, Pool, Usable};
use super::request::{Alternative, Claim};
use super::share;
use super::{Chosen, Features, Reason};
use crate::taints;

/// What each capacity of a device is drawn by, in nano-units.
type Share<'a> = BTreeMap<&'a str, i128>;

/// The devices of a node, with those that are picked for the claims of a pod. A device is named by its position in the
/// order in which the scheduler tries them.
pub(super) struct Picks<'s, 'a> {
    features: Features,
    held: &'s Held<'a>,
    claims: &'s [Claim<'a>],
    pools: Vec<PoolState<'s, 'a>>,
    devices: Vec<DeviceState<'s, 'a>>,
    /// Values of the picked devices, for each claim and rule.
    values: Vec<Vec<Values<'a>>>,
    /// Picks so far, for each claim.
    picked: Vec<Vec<Pick<'a>>>,
}

struct PoolState<'s, 'a> {
    pool: &'s Pool<'a>,
    /// What held devices leave of each counter, in nano-units; `None` until a device with counters is tried.
    left: Option<Vec<i128>>,
    /// What picked devices draw of each counter, in nano-units.
    drawn: Vec<i128>,
}

struct DeviceState<'s, 'a> {
    candidate: &'s Candidate<'a>,
    /// Index of its pool.
    pool: usize,
    holding: Option<&'s Holding<'a>>,
    /// Whether the device may be allocated several times.
    is_shareable: bool,
    /// Claims of the pod that have picked the device without sharing it.
    claims: Vec<usize>,
    /// Number of picked shares of the device.
    shares: u32,
    /// What these shares consume in all.
    shared: Share<'a>,
}

struct Pick<'a> {
    position: usize,
    /// Indices of the request and of its alternative.
    alternative: (usize, usize),
    /// What is consumed of a shareable device; `None` where the device is the claim's alone.
    share: Option<Share<'a>>,
    draws: bool,
}

/// What came of the wish to pick a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Picked {
    Yes,
    /// The device, its counters or its capacity are taken, or it has a taint.
    No,
    /// A constraint of the claim forbids it.
    BreaksConstraint,
}

impl<'s, 'a> Picks<'s, 'a> {
    pub(super) fn new(
        features: Features,
        held: &'s Held<'a>,
        pools: &'s [Pool<'a>],
        claims: &'s [Claim<'a>],
    ) -> Self {
        let mut devices = Vec::new();
        for (index, pool) in pools.iter().enumerate().filter(|(_, pool)| pool.usable == Usable::Yes) {
            devices.extend(pool.devices.iter().map(|candidate| DeviceState {
                candidate,
                pool: index,
                holding: held.holding(candidate.id),
                is_shareable: features.consumable_capacity
                    && candidate.device.allow_multiple_allocations == Some(true),
                claims: Vec::new(),
                shares: 0,
                shared: Share::new(),
            }));
        }
        let pools =
            pools.iter().map(|pool| PoolState { pool, left: None, drawn: vec![0; pool.counters.len()] });
        let values = claims.iter().map(|claim| claim.rules.iter().map(|_| Values::default()).collect());
        Self {
            features,
            held,
            claims,
            pools: pools.collect(),
            devices,
            values: values.collect(),
            picked: claims.iter().map(|_| Vec::new()).collect(),
        }
    }

    /// Returns the number of devices of the node, picked or not.
    pub(super) fn devices(&self) -> usize {
        self.devices.len()
    }

    pub(super) fn candidate(&self, position: usize) -> &'s Candidate<'a> {
        self.devices[position].candidate
    }

    /// Returns the number of devices that are picked for a claim.
    pub(super) fn count(&self, claim: usize) -> usize {
        self.picked[claim].len()
    }

    /// Returns whether no claim holds the device or has picked it. Admin access minds only picks of the same claim.
    pub(super) fn is_free(&self, claim: usize, alternative: &Alternative<'a>, position: usize) -> bool {
        let device = &self.devices[position];
        if alternative.admin_access {
            return !device.claims.contains(&claim);
        }
        device.claims.is_empty() && !device.holding.is_some_and(|holding| holding.is_exclusive)
    }

    /// Returns what a request would consume of a device beside `held` and picked shares; `None` where too little is left.
    pub(super) fn consumed(
        &self,
        alternative: &Alternative<'a>,
        position: usize,
    ) -> Result<Option<Share<'a>>, Reason> {
        let device = &self.devices[position];
        let used = |name: &str| {
            let held = device.holding.and_then(|holding| holding.consumed.get(name)).copied().unwrap_or(0);
            held + device.shared.get(name).copied().unwrap_or(0)
        };
        self.consumed_beside(alternative, position, used)
    }

    /// Returns what a request would consume of a device that nothing else consumes; `None` where the device has too little.
    pub(super) fn consumed_of_all(
        &self,
        alternative: &Alternative<'a>,
        position: usize,
    ) -> Result<Option<Share<'a>>, Reason> {
        self.consumed_beside(alternative, position, |_| 0)
    }

    fn consumed_beside(
        &self,
        alternative: &Alternative<'a>,
        position: usize,
        used: impl Fn(&str) -> i128,
    ) -> Result<Option<Share<'a>>, Reason> {
        if !self.features.consumable_capacity {
            return Ok(Some(Share::new()));
        }
        let capacity = self.candidate(position).device.capacity.as_ref();
        share::consumed(self.features, &alternative.capacity, capacity, used)
    }

    /// Picks a device for a claim, for one of its requests and alternatives (indices).
    pub(super) fn pick(
        &mut self,
        claim: usize,
        alternative: (usize, usize),
        position: usize,
    ) -> Result<Picked, Reason> {
        let claims = self.claims;
        let wanted = &claims[claim].requests[alternative.0].alternatives[alternative.1];
        let DeviceState { candidate, is_shareable, shares, holding, .. } = self.devices[position];
        // Admin access to shares is not counted as use.
        let is_never_in_use = wanted.admin_access && is_shareable;
        if !is_never_in_use && !self.is_free(claim, wanted, position) {
            return Ok(Picked::No);
        }
        let has_counters = candidate.device.consumes_counters.as_ref().is_some_and(|c| !c.is_empty());
        if has_counters && !self.features.partitionable_devices {
            return Ok(Picked::No);
        }
        // A further share draws on no counter: the first one has.
        let is_further_share =
            is_shareable && (shares > 0 || holding.is_some_and(|holding| holding.is_shared));
        let draws = !is_further_share && !candidate.draws.is_empty();
        if draws && !self.draw(position) {
            return Ok(Picked::No);
        }
        if self.features.device_taints && !tolerates(wanted.tolerations, candidate.device.taints.as_deref()) {
            self.release(claim, wanted, position, draws, 0);
            return Ok(Picked::No);
        }
        for (kept, rule) in claims[claim].rules.iter().enumerate() {
            if !rule.add(&mut self.values[claim][kept], wanted, candidate) {
                self.release(claim, wanted, position, draws, kept);
                return Ok(Picked::BreaksConstraint);
            }
        }
        let Some(consumed) = self.consumed(wanted, position)? else {
            self.release(claim, wanted, position, draws, claims[claim].rules.len());
            return Ok(Picked::No);
        };
        let device = &mut self.devices[position];
        let share = is_shareable.then_some(consumed);
        match &share {
            Some(share) => {
                device.shares += 1;
                for (name, amount) in share {
                    *device.shared.entry(name).or_default() += amount;
                }
            }
            None => device.claims.push(claim),
        }
        self.picked[claim].push(Pick { position, alternative, share, draws });
        Ok(Picked::Yes)
    }

    /// Puts the claim's newest pick back.
    pub(super) fn put_back(&mut self, claim: usize) {
        let Some(pick) = self.picked[claim].pop() else { return };
        let claims = self.claims;
        let wanted = &claims[claim].requests[pick.alternative.0].alternatives[pick.alternative.1];
        let device = &mut self.devices[pick.position];
        match &pick.share {
            Some(share) => {
                device.shares -= 1;
                for (name, amount) in share {
                    *device.shared.entry(name).or_default() -= amount;
                }
            }
            None => device.claims.retain(|other| *other != claim),
        }
        self.release(claim, wanted, pick.position, pick.draws, claims[claim].rules.len());
    }

    /// Draws on the counters of a device's pool. Returns `false`, and draws nothing, where any counter of the pool
    /// would have too little: a counter that is over-committed already blocks all devices of the pool that draw.
    fn draw(&mut self, position: usize) -> bool {
        let held = self.held;
        let DeviceState { candidate, pool, .. } = self.devices[position];
        let state = &mut self.pools[pool];
        let of_pool = state.pool;
        let left = state.left.get_or_insert_with(|| {
            let mut left = of_pool.counters.clone();
            let all = of_pool.devices.iter().chain(&of_pool.elsewhere);
            for other in all.filter(|other| held.holding(other.id).is_some()) {
                for &(counter, amount) in &other.draws {
                    left[counter] -= amount;
                }
            }
            left
        });
        for &(counter, amount) in &candidate.draws {
            state.drawn[counter] += amount;
        }
        let has_enough = left.iter().zip(&state.drawn).all(|(left, drawn)| drawn <= left);
        if !has_enough {
            undraw(state, candidate);
        }
        has_enough
    }

    /// Takes back what a pick has drawn, and its values under the first `rules` rules of the claim.
    fn release(
        &mut self,
        claim: usize,
        wanted: &Alternative<'a>,
        position: usize,
        draws: bool,
        rules: usize,
    ) {
        for (rule, values) in self.claims[claim].rules[..rules].iter().zip(&mut self.values[claim]) {
            rule.remove(values, wanted);
        }
        if draws {
            let DeviceState { candidate, pool, .. } = self.devices[position];
            undraw(&mut self.pools[pool], candidate);
        }
    }

    /// Returns the picked devices, in the order of claims and picks.
    pub(super) fn chosen(self) -> Vec<Chosen<'a>> {
        let mut chosen = Vec::new();
        for (claim, picks) in self.picked.into_iter().enumerate() {
            for Pick { position, alternative: (request, alternative), share, .. } in picks {
                let alternative = &self.claims[claim].requests[request].alternatives[alternative];
                chosen.push(Chosen {
                    claim,
                    request: alternative.name.clone(),
                    device: self.devices[position].candidate.id,
                    share,
                    admin_access: alternative.admin_access,
                });
            }
        }
        chosen
    }
}

fn undraw(pool: &mut PoolState<'_, '_>, candidate: &Candidate<'_>) {
    for &(counter, amount) in &candidate.draws {
        pool.drawn[counter] -= amount;
    }
}

/// Returns whether every taint that keeps pods away is tolerated.
fn tolerates(tolerations: &[DeviceToleration], taints: Option<&[DeviceTaint]>) -> bool {
    taints.unwrap_or_default().iter().all(|taint| {
        !matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
            || tolerations.iter().any(|toleration| taints::is_tolerated(taint, toleration))
    })
}

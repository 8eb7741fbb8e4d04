//! The search for one pod on one node: devices in the scheduler's order, the first solution wins, with backtracking.
use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::resource::v1::{DeviceTaint, DeviceToleration};
use std::collections::BTreeMap;

use super::constraint::Values;
use super::held::{Held, Holding};
use super::pool::{Candidate, Pool, Usable, device_is_for};
use super::request::{Alternative, Claim, Count, DEVICES_PER_CLAIM};
use super::share;
use super::{Aborted, Chosen, Features, Outcome, Reason};
use crate::selector::{Evaluator, SelectorError};

/// Inputs of an attempt beside pools and claims.
pub(super) struct Conditions<'s, 'a> {
    pub(super) features: Features,
    pub(super) node: &'s Node,
    pub(super) held: &'s Held<'a>,
}

/// One attempt to place a pod on a node.
pub(super) struct Attempt<'s, 'a> {
    around: Conditions<'s, 'a>,
    claims: &'s [Claim<'a>],
    evaluator: &'s mut Evaluator,
    /// Number of devices that may still be tried.
    steps: u32,
    pools: Vec<PoolState<'s, 'a>>,
    /// Devices of usable pools, in order: (pool, device).
    order: Vec<(usize, usize)>,
    devices: Vec<DeviceState<'s, 'a>>,
    /// State of each alternative, in the order of claims and requests.
    wanted: Vec<Wanted>,
    /// Values of the chosen devices, for each claim and rule.
    rules: Vec<Vec<Values<'a>>>,
    /// Devices chosen so far, for each claim.
    chosen: Vec<Vec<Choice<'a>>>,
}

struct PoolState<'s, 'a> {
    pool: &'s Pool<'a>,
    /// What held devices leave of each counter, in nano-units; `None` until a device with counters is tried.
    left: Option<Vec<i128>>,
    /// What chosen devices draw of each counter, in nano-units.
    drawn: Vec<i128>,
}

struct DeviceState<'s, 'a> {
    candidate: &'s Candidate<'a>,
    holding: Option<&'s Holding<'a>>,
    /// Whether the device may be allocated several times.
    is_shareable: bool,
    /// Claims of the pod that have chosen the device without sharing it.
    claims: Vec<usize>,
    /// Number of chosen shares of the device.
    shares: u32,
    /// What these shares consume in all, in nano-units.
    shared: BTreeMap<&'a str, i128>,
}

/// State of one alternative.
struct Wanted {
    /// Whether each device in order meets its selectors and nodes; `None` until it was evaluated.
    selectable: Vec<Option<bool>>,
    count: usize,
    /// Positions of all devices that match, where the alternative asks for all; else `None`.
    all: Option<Vec<usize>>,
}

struct Choice<'a> {
    position: usize,
    alternative: (usize, usize),
    share: Option<BTreeMap<&'a str, i128>>,
    draws: bool,
}

/// Position of the search.
#[derive(Clone, Copy, Default)]
struct At {
    claim: usize,
    request: usize,
    alternative: usize,
    /// Number of devices that are chosen for the alternative.
    devices: usize,
}

/// Reason why a branch of the search ends.
enum End {
    /// The claim would have too many devices: an alternative with fewer may fit.
    TooMany,
    Aborted(Aborted),
    GaveUp,
}

impl<'s, 'a> Attempt<'s, 'a> {
    pub(super) fn new(
        around: Conditions<'s, 'a>,
        steps: u32,
        pools: &'s [Pool<'a>],
        claims: &'s [Claim<'a>],
        evaluator: &'s mut Evaluator,
    ) -> Self {
        let mut order = Vec::new();
        let mut devices = Vec::new();
        for (p, pool) in pools.iter().enumerate().filter(|(_, pool)| pool.usable == Usable::Yes) {
            for (d, candidate) in pool.devices.iter().enumerate() {
                order.push((p, d));
                devices.push(DeviceState {
                    candidate,
                    holding: around.held.holding(candidate.id),
                    is_shareable: around.features.consumable_capacity
                        && candidate.device.allow_multiple_allocations == Some(true),
                    claims: Vec::new(),
                    shares: 0,
                    shared: BTreeMap::new(),
                });
            }
        }
        let pools =
            pools.iter().map(|pool| PoolState { pool, left: None, drawn: vec![0; pool.counters.len()] });
        Self {
            around,
            claims,
            evaluator,
            steps,
            pools: pools.collect(),
            order,
            devices,
            wanted: Vec::new(),
            rules: claims
                .iter()
                .map(|claim| claim.rules.iter().map(|_| Values::default()).collect())
                .collect(),
            chosen: claims.iter().map(|_| Vec::new()).collect(),
        }
    }

    pub(super) fn run(mut self) -> Result<Outcome<'a>, Aborted> {
        match self.count_all().and_then(|()| self.descend(At::default(), false, 0)) {
            Ok(true) => Ok(Outcome::Fits(self.result())),
            Ok(false) | Err(End::TooMany) => Ok(Outcome::NoFit),
            Err(End::GaveUp) => Ok(Outcome::Undecided),
            Err(End::Aborted(aborted)) => Err(aborted),
        }
    }

    /// Determines how many devices each alternative wants, and which, where it wants all.
    fn count_all(&mut self) -> Result<(), End> {
        let claims = self.claims;
        for claim in claims {
            let mut least_of_claim = 0_usize;
            for request in &claim.requests {
                let mut least = usize::MAX;
                for alternative in &request.alternatives {
                    let index = self.wanted.len();
                    self.wanted.push(Wanted {
                        selectable: vec![None; self.order.len()],
                        count: 0,
                        all: None,
                    });
                    match alternative.count {
                        Count::Exactly(count) => self.wanted[index].count = count,
                        Count::All => {
                            let all = self.all_of(claim, alternative, index)?;
                            self.wanted[index].count = all.len();
                            self.wanted[index].all = Some(all);
                        }
                    }
                    least = least.min(self.wanted[index].count);
                }
                least_of_claim = least_of_claim.saturating_add(least);
                if least_of_claim > DEVICES_PER_CLAIM {
                    return Err(abort(claim, Reason::TooManyDevices { most: DEVICES_PER_CLAIM }));
                }
            }
        }
        Ok(())
    }

    fn all_of(
        &mut self,
        claim: &Claim<'a>,
        alternative: &Alternative<'a>,
        index: usize,
    ) -> Result<Vec<usize>, End> {
        let mut all = Vec::new();
        let mut position = 0;
        for p in 0..self.pools.len() {
            let pool = self.pools[p].pool;
            let trouble = match pool.usable {
                Usable::Yes => None,
                Usable::Incomplete => Some("being updated"),
                Usable::Invalid => Some("invalid"),
            };
            if let Some(trouble) = trouble {
                let reason = Reason::NotAllKnown {
                    request: alternative.name.clone(),
                    pool: format!("{}/{}", pool.driver, pool.name),
                    state: trouble,
                };
                return Err(abort(claim, reason));
            }
            for _ in &pool.devices {
                let here = position;
                position += 1;
                if !self.is_selectable(claim, alternative, index, here)? {
                    continue;
                }
                let device = self.devices[here].candidate.device;
                if self.around.features.consumable_capacity {
                    let consumed = share::consumed(
                        self.around.features,
                        &alternative.capacity,
                        device.capacity.as_ref(),
                        |_| 0,
                    );
                    if consumed.map_err(|reason| abort(claim, reason))?.is_none() {
                        continue;
                    }
                }
                all.push(here);
            }
        }
        Ok(all)
    }

    /// Chooses the next device and all after it. `is_chosen`: the alternative at `at` is the one to take. Devices
    /// before
    /// `start` are not tried: within a request every set of devices is tried once.
    fn descend(&mut self, at: At, is_chosen: bool, start: usize) -> Result<bool, End> {
        let claims = self.claims;
        let Some(claim) = claims.get(at.claim) else { return Ok(true) };
        let Some(request) = claim.requests.get(at.request) else {
            return match self.descend(At { claim: at.claim + 1, ..At::default() }, false, 0) {
                // An earlier claim with another alternative may leave this one with fewer.
                Err(End::TooMany) => Ok(false),
                other => other,
            };
        };
        if !is_chosen && request.is_list {
            let mut all_too_many = true;
            for alternative in 0..request.alternatives.len() {
                match self.descend(At { alternative, ..at }, true, 0) {
                    Err(End::TooMany) => {}
                    Ok(false) => all_too_many = false,
                    other => return other,
                }
            }
            return if all_too_many { Err(End::TooMany) } else { Ok(false) };
        }
        let index = self.index(at);
        let alternative = &request.alternatives[at.alternative];
        let all = self.wanted[index].all.is_some();
        let count = self.wanted[index].count;
        if all && count == 0 {
            return Ok(false);
        }
        if at.devices >= count {
            return self.descend(At { claim: at.claim, request: at.request + 1, ..At::default() }, false, 0);
        }
        if count - at.devices > DEVICES_PER_CLAIM.saturating_sub(self.chosen[at.claim].len()) {
            return Err(End::TooMany);
        }
        let next = At { devices: at.devices + 1, ..at };
        if let Some(position) = self.wanted[index].all.as_ref().and_then(|all| all.get(at.devices)).copied() {
            if !self.choose(at, alternative, position, true)? {
                return Ok(false);
            }
            let done = self.descend(next, is_chosen, 0);
            if !matches!(done, Ok(true)) {
                self.undo(at.claim);
            }
            return done;
        }
        for position in start..self.order.len() {
            if !self.is_free(at.claim, alternative, position)
                || !self.is_selectable(claim, alternative, index, position)?
                || self.consumed(claim, alternative, position)?.is_none()
            {
                continue;
            }
            if !self.choose(at, alternative, position, false)? {
                continue;
            }
            let done = self.descend(next, is_chosen, position + 1);
            if matches!(done, Ok(true)) {
                return done;
            }
            self.undo(at.claim);
            done?;
        }
        Ok(false)
    }

    /// Returns the index of an alternative in [`Attempt::wanted`].
    fn index(&self, at: At) -> usize {
        let before = self.claims[..at.claim].iter().flat_map(|claim| &claim.requests);
        let before = before.chain(&self.claims[at.claim].requests[..at.request]);
        before.map(|request| request.alternatives.len()).sum::<usize>() + at.alternative
    }

    fn is_free(&self, claim: usize, alternative: &Alternative<'a>, position: usize) -> bool {
        let device = &self.devices[position];
        if alternative.admin_access {
            return !device.claims.contains(&claim);
        }
        device.claims.is_empty() && !device.holding.is_some_and(|holding| holding.is_exclusive)
    }

    fn is_selectable(
        &mut self,
        claim: &Claim<'a>,
        alternative: &Alternative<'a>,
        index: usize,
        position: usize,
    ) -> Result<bool, End> {
        let candidate = self.devices[position].candidate;
        let must_bind =
            candidate.device.binding_conditions.as_ref().is_some_and(|conditions| !conditions.is_empty());
        if must_bind && !self.around.features.device_binding {
            return Ok(false);
        }
        if let Some(known) = self.wanted[index].selectable[position] {
            return Ok(known);
        }
        let matches = self.evaluator.matches(&alternative.selectors, candidate.id.0, candidate.device);
        let failed = |error: SelectorError| abort(claim, Reason::Selector { message: error.to_string() });
        let mut matches = matches.map_err(failed)?;
        if matches && candidate.chooses_nodes {
            matches =
                device_is_for(candidate.device, self.around.node).map_err(|reason| abort(claim, reason))?;
        }
        self.wanted[index].selectable[position] = Some(matches);
        Ok(matches)
    }

    /// Returns what a request would consume of a device; `None` where too little is left.
    fn consumed(
        &self,
        claim: &Claim<'a>,
        alternative: &Alternative<'a>,
        position: usize,
    ) -> Result<Option<BTreeMap<&'a str, i128>>, End> {
        if !self.around.features.consumable_capacity {
            return Ok(Some(BTreeMap::new()));
        }
        let device = &self.devices[position];
        let used = |name: &str| {
            let held = device.holding.and_then(|holding| holding.consumed.get(name)).copied().unwrap_or(0);
            held + device.shared.get(name).copied().unwrap_or(0)
        };
        let capacity = device.candidate.device.capacity.as_ref();
        share::consumed(self.around.features, &alternative.capacity, capacity, used)
            .map_err(|reason| abort(claim, reason))
    }

    /// Chooses a device; returns `false` where it cannot be had. `must`: the claim needs exactly this device, so that a
    /// constraint that forbids it aborts the attempt.
    fn choose(
        &mut self,
        at: At,
        alternative: &Alternative<'a>,
        position: usize,
        must: bool,
    ) -> Result<bool, End> {
        self.steps = self.steps.checked_sub(1).ok_or(End::GaveUp)?;
        let claim = &self.claims[at.claim];
        let (pool, _) = self.order[position];
        let candidate = self.devices[position].candidate;
        let is_shareable = self.devices[position].is_shareable;
        let may_repeat = alternative.admin_access && is_shareable;
        if !may_repeat && !self.is_free(at.claim, alternative, position) {
            return Ok(false);
        }
        let features = self.around.features;
        if !features.partitionable_devices
            && candidate.device.consumes_counters.as_ref().is_some_and(|c| !c.is_empty())
        {
            return Ok(false);
        }
        // A further share draws on no counter: the first one has.
        let is_further_share = is_shareable
            && (self.devices[position].shares > 0
                || self.devices[position].holding.is_some_and(|holding| holding.is_shared));
        let draws = !is_further_share && !candidate.draws.is_empty();
        if draws && !self.draw(pool, candidate) {
            return Ok(false);
        }
        let is_tainted =
            features.device_taints && !tolerates(alternative.tolerations, candidate.device.taints.as_deref());
        if is_tainted {
            self.release(pool, candidate, draws);
            return Ok(false);
        }
        for (added, rule) in claim.rules.iter().enumerate() {
            if rule.add(&mut self.rules[at.claim][added], alternative, candidate) {
                continue;
            }
            for (rule, values) in claim.rules[..added].iter().zip(&mut self.rules[at.claim]) {
                rule.remove(values, alternative);
            }
            self.release(pool, candidate, draws);
            if must {
                let reason = Reason::Constraint {
                    request: alternative.name.clone(),
                    device: candidate.id.2.to_owned(),
                };
                return Err(abort(claim, reason));
            }
            return Ok(false);
        }
        let Some(consumed) = self.consumed(claim, alternative, position)? else {
            for (rule, values) in claim.rules.iter().zip(&mut self.rules[at.claim]) {
                rule.remove(values, alternative);
            }
            self.release(pool, candidate, draws);
            return Ok(false);
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
            None => device.claims.push(at.claim),
        }
        self.chosen[at.claim].push(Choice {
            position,
            alternative: (at.request, at.alternative),
            share,
            draws,
        });
        Ok(true)
    }

    /// Undoes the claim's newest choice.
    fn undo(&mut self, claim: usize) {
        let Some(choice) = self.chosen[claim].pop() else { return };
        let (request, alternative) = choice.alternative;
        let claims = self.claims;
        let alternative = &claims[claim].requests[request].alternatives[alternative];
        let device = &mut self.devices[choice.position];
        let candidate = device.candidate;
        match &choice.share {
            Some(share) => {
                device.shares -= 1;
                for (name, amount) in share {
                    *device.shared.entry(name).or_default() -= amount;
                }
            }
            None => device.claims.retain(|other| *other != claim),
        }
        for (rule, values) in claims[claim].rules.iter().zip(&mut self.rules[claim]) {
            rule.remove(values, alternative);
        }
        self.release(self.order[choice.position].0, candidate, choice.draws);
    }

    /// Draws on the counters of a device's pool. Returns `false`, and draws nothing, where any counter of the pool
    /// would have too little: a counter that is over-committed already blocks all devices of the pool that draw.
    fn draw(&mut self, pool: usize, candidate: &Candidate<'a>) -> bool {
        let held = self.around.held;
        let state = &mut self.pools[pool];
        let of_pool = state.pool;
        let left = state.left.get_or_insert_with(|| {
            let mut left = of_pool.counters.clone();
            for other in of_pool
                .devices
                .iter()
                .chain(&of_pool.elsewhere)
                .filter(|other| held.holding(other.id).is_some())
            {
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
            self.release(pool, candidate, true);
        }
        has_enough
    }

    fn release(&mut self, pool: usize, candidate: &Candidate<'a>, draws: bool) {
        for &(counter, amount) in candidate.draws.iter().filter(|_| draws) {
            self.pools[pool].drawn[counter] -= amount;
        }
    }

    fn result(self) -> Vec<Chosen<'a>> {
        let claims = self.claims;
        let mut result = Vec::new();
        for (claim, choices) in self.chosen.into_iter().enumerate() {
            for Choice { position, alternative: (request, alternative), share, .. } in choices {
                let alternative = &claims[claim].requests[request].alternatives[alternative];
                result.push(Chosen {
                    claim,
                    request: alternative.name.clone(),
                    device: self.devices[position].candidate.id,
                    share,
                    admin_access: alternative.admin_access,
                });
            }
        }
        result
    }
}

fn abort(claim: &Claim<'_>, reason: Reason) -> End {
    End::Aborted(Aborted { at: claim.name.clone(), reason })
}

/// Returns whether every taint that keeps pods away is tolerated.
fn tolerates(tolerations: &[DeviceToleration], taints: Option<&[DeviceTaint]>) -> bool {
    let mut taints = taints.unwrap_or_default().iter();
    taints.all(|taint| {
        !matches!(taint.effect.as_str(), "NoSchedule" | "NoExecute")
            || tolerations.iter().any(|toleration| tolerates_taint(toleration, taint))
    })
}

/// Returns whether a toleration tolerates a taint. An empty key tolerates every key, an empty effect every effect, and
/// `Exists` every value.
fn tolerates_taint(toleration: &DeviceToleration, taint: &DeviceTaint) -> bool {
    let unset_or = |text: &Option<String>, wanted: &str| {
        text.as_ref().is_none_or(|text| text.is_empty() || text == wanted)
    };
    let value = |value: &Option<String>| value.clone().unwrap_or_default();
    unset_or(&toleration.effect, &taint.effect)
        && unset_or(&toleration.key, &taint.key)
        && match toleration.operator.as_deref() {
            None | Some("" | "Equal") => value(&toleration.value) == value(&taint.value),
            Some("Exists") => true,
            Some(_) => false,
        }
}

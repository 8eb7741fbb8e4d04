//! The search for one pod on one node: devices in the scheduler's order, the first solution wins, with backtracking.
use k8s_openapi::api::core::v1::Node;

use super::held::Held;
use super::picks::{Picked, Picks};
use super::pool::{Pool, Usable, device_is_for};
use super::request::{Alternative, Claim, Count, DEVICES_PER_CLAIM};
use super::{Aborted, Features, Outcome, Reason};
use crate::selector::{Evaluator, SelectorError};

/// Inputs of an attempt beside pools and claims.
pub(super) struct Conditions<'s, 'a> {
    pub(super) features: Features,
    pub(super) node: &'s Node,
    pub(super) held: &'s Held<'a>,
}

/// One attempt to place a pod on a node.
pub(super) struct Attempt<'s, 'a> {
    features: Features,
    node: &'s Node,
    pools: &'s [Pool<'a>],
    claims: &'s [Claim<'a>],
    evaluator: &'s mut Evaluator,
    /// Number of devices that may still be tried.
    steps: u32,
    picks: Picks<'s, 'a>,
    /// State of each alternative, in the order of claims and requests.
    wanted: Vec<Wanted>,
}

/// State of one alternative.
struct Wanted {
    /// Whether each device in order meets its selectors and nodes; `None` until it was evaluated.
    selectable: Vec<Option<bool>>,
    count: usize,
    /// Positions of all devices that match, where the alternative asks for all; else `None`.
    all: Option<Vec<usize>>,
}

/// Position of the search.
#[derive(Clone, Copy, Default)]
struct At {
    claim: usize,
    request: usize,
    alternative: usize,
    /// Number of devices that are picked for the alternative.
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
        conditions: Conditions<'s, 'a>,
        steps: u32,
        pools: &'s [Pool<'a>],
        claims: &'s [Claim<'a>],
        evaluator: &'s mut Evaluator,
    ) -> Self {
        let Conditions { features, node, held } = conditions;
        let picks = Picks::new(features, held, pools, claims);
        Self { features, node, pools, claims, evaluator, steps, picks, wanted: Vec::new() }
    }

    pub(super) fn run(mut self) -> Result<Outcome<'a>, Aborted> {
        match self.count_all().and_then(|()| self.descend(At::default(), false, 0)) {
            Ok(true) => Ok(Outcome::Fits(self.picks.chosen())),
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
                    let selectable = vec![None; self.picks.devices()];
                    self.wanted.push(Wanted { selectable, count: 0, all: None });
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

    /// Returns the positions of all devices that match an alternative, held or not.
    fn all_of(
        &mut self,
        claim: &Claim<'a>,
        alternative: &Alternative<'a>,
        index: usize,
    ) -> Result<Vec<usize>, End> {
        let mut all = Vec::new();
        let mut position = 0;
        for pool in self.pools {
            let state = match pool.usable {
                Usable::Yes => None,
                Usable::Incomplete => Some("being updated"),
                Usable::Invalid => Some("invalid"),
            };
            if let Some(state) = state {
                let request = alternative.name.clone();
                let pool = format!("{}/{}", pool.driver, pool.name);
                return Err(abort(claim, Reason::NotAllKnown { request, pool, state }));
            }
            for here in position..position + pool.devices.len() {
                if self.is_selectable(claim, alternative, index, here)? {
                    let consumed = self.picks.consumed_of_all(alternative, here);
                    all.extend(consumed.map_err(|reason| abort(claim, reason))?.map(|_| here));
                }
            }
            position += pool.devices.len();
        }
        Ok(all)
    }

    /// Picks the next device and all after it. `is_chosen` says that the alternative at `at` is the one to take. Devices
    /// before `start` are not tried, because within a request every set of devices is tried once.
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
        let count = self.wanted[index].count;
        if alternative.count == Count::All && count == 0 {
            return Ok(false);
        }
        if at.devices >= count {
            return self.descend(At { claim: at.claim, request: at.request + 1, ..At::default() }, false, 0);
        }
        if count - at.devices > DEVICES_PER_CLAIM.saturating_sub(self.picks.count(at.claim)) {
            return Err(End::TooMany);
        }
        let of_all = self.wanted[index].all.as_ref().and_then(|all| all.get(at.devices)).copied();
        if let Some(position) = of_all {
            return match self.pick(at, position)? {
                Picked::Yes => self.after_pick(at, is_chosen, 0),
                Picked::No => Ok(false),
                Picked::BreaksConstraint => {
                    let (request, device) = (&alternative.name, self.picks.candidate(position).id.2);
                    let (request, device) = (request.clone(), device.to_owned());
                    Err(abort(claim, Reason::Constraint { request, device }))
                }
            };
        }
        for position in start..self.picks.devices() {
            if !self.picks.is_free(at.claim, alternative, position)
                || !self.is_selectable(claim, alternative, index, position)?
            {
                continue;
            }
            let consumed = self.picks.consumed(alternative, position);
            if consumed.map_err(|reason| abort(claim, reason))?.is_some()
                && self.pick(at, position)? == Picked::Yes
                && self.after_pick(at, is_chosen, position + 1)?
            {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Picks one device for the alternative at `at`.
    fn pick(&mut self, at: At, position: usize) -> Result<Picked, End> {
        self.steps = self.steps.checked_sub(1).ok_or(End::GaveUp)?;
        let picked = self.picks.pick(at.claim, (at.request, at.alternative), position);
        picked.map_err(|reason| abort(&self.claims[at.claim], reason))
    }

    /// Goes on after a pick, and puts it back where that leads to no solution.
    fn after_pick(&mut self, at: At, is_chosen: bool, start: usize) -> Result<bool, End> {
        let done = self.descend(At { devices: at.devices + 1, ..at }, is_chosen, start);
        if !matches!(done, Ok(true)) {
            self.picks.put_back(at.claim);
        }
        done
    }

    /// Returns the index of an alternative in [`Attempt::wanted`].
    fn index(&self, at: At) -> usize {
        let before = self.claims[..at.claim].iter().flat_map(|claim| &claim.requests);
        let before = before.chain(&self.claims[at.claim].requests[..at.request]);
        before.map(|request| request.alternatives.len()).sum::<usize>() + at.alternative
    }

    /// Returns whether a device meets the selectors of an alternative and is for the node. The answer is kept.
    fn is_selectable(
        &mut self,
        claim: &Claim<'a>,
        alternative: &Alternative<'a>,
        index: usize,
        position: usize,
    ) -> Result<bool, End> {
        let candidate = self.picks.candidate(position);
        let must_bind =
            candidate.device.binding_conditions.as_ref().is_some_and(|conditions| !conditions.is_empty());
        if must_bind && !self.features.device_binding {
            return Ok(false);
        }
        if let Some(known) = self.wanted[index].selectable[position] {
            return Ok(known);
        }
        let matches = self.evaluator.matches(&alternative.selectors, candidate.id.0, candidate.device);
        let failed = |error: SelectorError| abort(claim, Reason::Selector { message: error.to_string() });
        let mut matches = matches.map_err(failed)?;
        if matches && candidate.chooses_nodes {
            matches = device_is_for(candidate.device, self.node).map_err(|reason| abort(claim, reason))?;
        }
        self.wanted[index].selectable[position] = Some(matches);
        Ok(matches)
    }
}

fn abort(claim: &Claim<'_>, reason: Reason) -> End {
    End::Aborted(Aborted { at: claim.name.clone(), reason })
}

//! Depth-first search for the devices of one claim on one node. Devices are tried in published order, the first
//! solution wins, and the search backtracks where a claim asks for several devices.
use k8s_openapi::api::resource::v1::DeviceAttribute;

use crate::ledger::{DevicePosition, Ledger};
use crate::request::{Match, Request};
use crate::view::{Eligible, View};

/// Maximum devices that are tried. The scheduler limits its own search by time (10 s).
const STEPS: u32 = 200_000;

pub(crate) struct Search<'v, 'a> {
    pub(crate) view: &'v View<'a>,
    pub(crate) requests: &'v [Request<'a>],
    pub(crate) eligible: &'v [Eligible],
    pub(crate) matches: &'v [Match],
}

/// Solution: index of the request and position of the device, for each device.
pub(crate) type Found = Vec<(usize, DevicePosition)>;

struct State<'l> {
    ledger: &'l mut Ledger,
    order: Vec<DevicePosition>,
    /// Index of the request of each requested device.
    needs: Vec<usize>,
    /// Index in `order` of each device that was chosen.
    chosen: Vec<usize>,
    steps: u32,
}

impl Search<'_, '_> {
    /// Returns the first solution on the node and leaves the ledger as it was. `None` also means that the search was
    /// given up.
    pub(crate) fn on_node(&self, ledger: &mut Ledger, node: Option<&str>) -> Option<Found> {
        let needs =
            self.requests.iter().enumerate().flat_map(|(i, r)| std::iter::repeat_n(i, r.count)).collect();
        let mut state = State { ledger, order: self.view.order(node), needs, chosen: Vec::new(), steps: 0 };
        let found = self.descend(&mut state);
        let result = found.then(|| {
            let devices = state.chosen.iter().map(|&position| state.order[position]);
            state.needs.iter().copied().zip(devices).collect()
        });
        for _ in 0..state.chosen.len() {
            state.ledger.undo(&self.view.pools);
        }
        result
    }

    fn descend(&self, state: &mut State<'_>) -> bool {
        let depth = state.chosen.len();
        let Some(&request) = state.needs.get(depth) else { return true };
        // Devices of one request are interchangeable: in ascending order, every set is tried once.
        let start = match depth.checked_sub(1) {
            Some(last) if state.needs[last] == request => state.chosen[last] + 1,
            _ => 0,
        };
        for position in start..state.order.len() {
            let at = state.order[position];
            if !self.eligible[request].is(at) || !self.agrees(state, request, at) {
                continue;
            }
            state.steps += 1;
            if state.steps > STEPS {
                return false;
            }
            if state.ledger.take(&self.view.pools, at, None) {
                state.chosen.push(position);
                if self.descend(state) {
                    return true;
                }
                state.chosen.pop();
                state.ledger.undo(&self.view.pools);
            }
        }
        false
    }

    /// Returns whether the device has the same value as the devices chosen before, for every constraint on its
    /// request.
    fn agrees(&self, state: &State<'_>, request: usize, at: DevicePosition) -> bool {
        let name = |request: usize| self.requests[request].name.as_str();
        self.matches.iter().filter(|m| m.concerns(name(request))).all(|constraint| {
            let Some(value) = self.value(constraint, at) else { return false };
            let earlier =
                state.chosen.iter().zip(&state.needs).filter(|(_, need)| constraint.concerns(name(**need)));
            let mut earlier = earlier.map(|(position, _)| self.value(constraint, state.order[*position]));
            earlier.all(|other| other == Some(value))
        })
    }

    fn value(&self, constraint: &Match, (pool, device): DevicePosition) -> Option<&DeviceAttribute> {
        let pool = &self.view.pools[pool];
        constraint.value(&pool.devices[device], pool.driver)
    }
}

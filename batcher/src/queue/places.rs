//! Where a queue's batches can run: the model servers that have its model warm, and what runs on each of them.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use sluice_batch_policy::{Load, NextBatch, ShapeClass, least_work};

use super::ModelHandle;
use super::sequence::Home;
use crate::settings::SlotSharing;
use crate::slots::{Claim, Grant, SlotGate, Use};
use crate::upstream::slot::Slot;
use crate::upstream::{InFlight, Upstream};

/// Weight of the newest batch in a place's pace.
const PACE_WEIGHT: f64 = 0.2;
/// How fast a place's pace is forgotten, per batch elsewhere.
const PACE_FADES: f64 = 0.1;
/// One batch says no more than this about a place.
const MOST_PACE: f64 = 4.0;

/// All places of one queue.
pub(super) struct Places {
    handle: Arc<ModelHandle>,
    list: Vec<Place>,
    /// Batches sent so far.
    sent: u64,
    /// Model servers that there are, ready or not.
    members: usize,
    /// Requests that wait for a slot of just this model server.
    bound: BTreeMap<Home, usize>,
}

/// One epoch of one model server.
struct Place {
    gate: Arc<SlotGate>,
    /// What to make further slots from; it has no connection.
    pattern: Slot,
    /// Slots with their connections, kept between batches.
    idle: Vec<Slot>,
    /// Granted and not used yet.
    granted: Vec<Grant>,
    running: Vec<Running>,
    /// Batches that have ended, whose slots go back with the next look at what waits: how each was used.
    ended: Vec<(Grant, Use)>,
    /// Time of one row, roughly: by it, batches of several models can be compared. Never changes, for discovery
    /// compares over time.
    row_seconds: Option<f64>,
    /// A connection failed; nothing is sent until the monitor has looked and given a slot again.
    in_doubt: bool,
    /// The server says that it does not have the model, and another one has it or may have it.
    is_passed_over: bool,
    /// A slot was claimed and has not been granted yet.
    waits: bool,
    /// Its times ÷ those of the curve, which is that of all places.
    pace: Option<f64>,
    last_used: u64,
}

/// A batch in flight.
struct Running {
    number: u64,
    class: Option<ShapeClass>,
    started_us: u64,
    /// When it is expected to end.
    end_us: u64,
    grant: Grant,
}

/// The right to send one batch, and where to.
pub(super) struct Taken {
    pub(super) slot: Slot,
    pub(super) inflight: InFlight,
    grant: Grant,
}

/// What is about to be sent.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wish {
    pub(super) now_us: u64,
    pub(super) next: NextBatch,
    /// Requests that wait.
    pub(super) waiting: usize,
}

/// A batch that was sent.
pub(super) struct Sent {
    pub(super) class: Option<ShapeClass>,
    pub(super) started_us: u64,
    /// When it is expected to end.
    pub(super) end_us: u64,
}

/// What the forecast says of places.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Room {
    /// Slots that the queue could use, those in use included.
    pub(super) slots: u32,
    /// Slots that it could use now.
    pub(super) free: u32,
    /// When the first slot in use is expected to be free for the queue, after the turns of others; 0 where none is.
    pub(super) first_end_us: u64,
    /// The part of these slots that the queue gets while the others that use them now go on.
    pub(super) share: f64,
}

impl Places {
    pub(super) fn new(handle: Arc<ModelHandle>) -> Self {
        Self { handle, list: Vec::new(), sent: 0, members: 0, bound: BTreeMap::new() }
    }

    /// Takes a slot in that a monitor has given: a new place, or one that is no longer in doubt.
    pub(super) fn add(&mut self, slot: Slot) {
        self.drop_void();
        let known = self.list.iter_mut().find(|place| {
            Arc::ptr_eq(&place.pattern.upstream, &slot.upstream)
                && place.pattern.epoch.number == slot.epoch.number
        });
        match known {
            Some(place) => {
                place.in_doubt = false;
                // A slot that came meanwhile went back unused: it is claimed anew.
                place.waits = false;
                place.pattern = slot.without_connection();
                if place.idle.len() + place.running.len() < place.slots(&self.handle) as usize {
                    place.idle.push(slot);
                }
            }
            None => {
                let gate = match self.handle.settings.now().batching.slot_sharing {
                    SlotSharing::Shared => Arc::clone(slot.upstream.slots()),
                    SlotSharing::PerModel => SlotGate::new(0),
                };
                self.list.push(Place::new(gate, slot));
            }
        }
        self.pass_over();
    }

    /// There are so many model servers, ready or not.
    pub(super) fn set_members(&mut self, members: usize) {
        self.members = members;
        self.pass_over();
    }

    /// Model servers that have not said yet whether they have the model, while all others say that they do not.
    pub(super) fn unsure(&self) -> usize {
        match self.absent_at() {
            0 => 0,
            absent => self.members.saturating_sub(absent),
        }
    }

    /// A server without the model is used only where no other one has it or may have it: what it would refuse is held
    /// until that is known.
    fn pass_over(&mut self) {
        let user = self.handle.number;
        let has_it = |place: &Place| place.pattern.is_current() && !place.pattern.profile.absent;
        let may_be_elsewhere = self.list.iter().any(has_it) || self.unsure() > 0;
        for place in &mut self.list {
            place.is_passed_over = may_be_elsewhere && place.pattern.profile.absent;
            if place.is_passed_over {
                place.rest(user);
            }
        }
    }

    /// How many servers there are, where none of them has the model.
    pub(super) fn absent_at(&self) -> usize {
        let current = || self.list.iter().filter(|place| place.pattern.is_current());
        if current().all(|place| place.pattern.profile.absent) { current().count() } else { 0 }
    }

    /// Forgets epochs that are over, once nothing runs there.
    pub(super) fn drop_void(&mut self) {
        let user = self.handle.number;
        for place in &mut self.list {
            if !place.pattern.is_current() {
                place.idle.clear();
                place.rest(user);
            }
        }
        let gone = |place: &mut Place| {
            !place.pattern.is_current() && place.running.is_empty() && place.ended.is_empty()
        };
        let gone: Vec<Place> = self.list.extract_if(.., gone).collect();
        for place in gone {
            // Its server may have come back, as another place behind the same gate.
            if !self.list.iter().any(|other| Arc::ptr_eq(&other.gate, &place.gate)) {
                place.gate.leave(user);
            }
        }
        self.pass_over();
    }

    /// Whether this model server is still there, as it was. One that lacks the model has no state of it either.
    pub(super) fn has(&self, home: Home) -> bool {
        let is_there = |place: &&Place| place.pattern.is_current() && !place.is_passed_over;
        self.list.iter().filter(is_there).any(|place| place.home() == home)
    }

    /// A request waits for a slot of just this one.
    pub(super) fn bind(&mut self, home: Home) {
        *self.bound.entry(home).or_default() += 1;
    }

    /// Such a request no longer waits.
    pub(super) fn unbind(&mut self, home: Home) {
        if let Some(count) = self.bound.get_mut(&home) {
            *count -= 1;
            if *count == 0 {
                self.bound.remove(&home);
            }
        }
    }

    /// None waits any more.
    pub(super) fn unbind_all(&mut self) {
        self.bound.clear();
    }

    /// Whether any waits for a slot of just one model server.
    pub(super) fn are_bound(&self) -> bool {
        !self.bound.is_empty()
    }

    /// Those that are waited for and are gone.
    pub(super) fn lost_homes(&self) -> Vec<Home> {
        self.bound.keys().copied().filter(|home| !self.has(*home)).collect()
    }

    /// Of so many requests that wait, whether any could go to this place.
    fn is_wanted(bound: &BTreeMap<Home, usize>, place: &Place, waiting: usize) -> bool {
        bound.is_empty() || bound.contains_key(&place.home()) || waiting > bound.values().sum()
    }

    /// Slots of places to which nothing that waits could go are left to others.
    pub(super) fn rest_unwanted(&mut self, waiting: usize) {
        let (user, bound) = (self.handle.number, &self.bound);
        for place in &mut self.list {
            if !Self::is_wanted(bound, place, waiting) {
                place.rest(user);
            }
        }
    }

    /// A slot that was waited for. It may come when its place is gone; then it goes back at once.
    pub(super) fn granted(&mut self, grant: Grant) {
        if let Some(place) = self.list.iter_mut().find(|place| grant.is_of(&place.gate) && place.is_good()) {
            place.waits = false;
            place.granted.push(grant);
        }
    }

    /// A batch of so many rows has ended; the class of its requests.
    pub(super) fn ended(
        &mut self,
        number: u64,
        slot: Option<Slot>,
        rows: u32,
        now_us: u64,
    ) -> Option<ShapeClass> {
        let (place, at) = self.list.iter_mut().find_map(|place| {
            let at = place.running.iter().position(|running| running.number == number)?;
            Some((place, at))
        })?;
        let running = place.running.swap_remove(at);
        let us = now_us.saturating_sub(running.started_us);
        let rows = f64::from(rows);
        if place.row_seconds.is_none() && rows > 0.0 {
            place.row_seconds = Some(us as f64 / 1e6 / rows);
        }
        let work = rows * place.row_seconds.unwrap_or(0.0);
        place.ended.push((running.grant, Use { us, work }));
        match slot {
            Some(slot) if slot.is_current() => place.idle.push(slot),
            Some(_) => {}
            None => {
                place.in_doubt = true;
                // It could not be used: a slot that is granted now is another queue's.
                place.rest(self.handle.number);
            }
        }
        running.class
    }

    /// Where a batch ended: how its time compares with the prediction.
    pub(super) fn paced(&mut self, upstream: &Arc<Upstream>, ratio: f64) {
        for place in &mut self.list {
            place.pace = if Arc::ptr_eq(&place.pattern.upstream, upstream) {
                let ratio = ratio.clamp(1.0 / MOST_PACE, MOST_PACE);
                Some(place.pace.map_or(ratio, |pace| pace + PACE_WEIGHT * (ratio - pace)))
            } else {
                // The curve follows whoever is used: what was measured against an older one fades, so that a server
                // that looked slow once is tried again.
                place.pace.map(|pace| pace + PACE_FADES * (1.0 - pace))
            };
        }
    }

    /// Slots of batches that have ended go back; where more is wished for, one is claimed in the same step.
    pub(super) fn settle(&mut self, wish: Option<Wish>) {
        let Self { handle, list, bound, .. } = self;
        for place in list.iter_mut() {
            while let Some((grant, used)) = place.ended.pop() {
                let wish = wish.filter(|wish| place.is_good() && Self::is_wanted(bound, place, wish.waiting));
                match wish {
                    Some(wish) => {
                        let gate = Arc::clone(&place.gate);
                        let granted =
                            gate.exchange(Some((grant, used)), &claim(handle, &place.pattern, wish));
                        place.waits = granted.is_none();
                        place.granted.extend(granted);
                    }
                    None => grant.used(used),
                }
            }
        }
        if wish.is_none() {
            self.rest();
        }
    }

    /// The number of slots may have changed: a claim tells the gate.
    pub(super) fn claim_again(&mut self) {
        self.list.iter_mut().for_each(|place| place.waits = false);
    }

    /// Nothing is left to send: slots go back, and none is waited for.
    pub(super) fn rest(&mut self) {
        let user = self.handle.number;
        self.list.iter_mut().for_each(|place| place.rest(user));
    }

    /// The place with the least work that has a slot for us now. Where none has, all are waited for.
    pub(super) fn take(&mut self, wish: Wish) -> Option<Taken> {
        loop {
            let index = self.choose(wish)?;
            let place = &mut self.list[index];
            let gate = Arc::clone(&place.gate);
            let grant =
                place.granted.pop().or_else(|| gate.claim(&claim(&self.handle, &place.pattern, wish)));
            let Some(grant) = grant else {
                place.waits = true;
                continue;
            };
            let slot = place.idle.pop().unwrap_or_else(|| place.pattern.without_connection());
            match slot.begin() {
                Some(inflight) => return Some(Taken { slot, inflight, grant }),
                // The epoch ended just now; the grant goes back.
                None => self.drop_void(),
            }
        }
    }

    /// Puts back what was taken for nothing.
    pub(super) fn untake(&mut self, taken: Taken) {
        let Taken { slot, inflight, grant } = taken;
        drop(inflight);
        let from = self.list.iter_mut().find(|place| place.is_of(&grant, &slot) && place.is_good());
        if let Some(place) = from {
            place.idle.push(slot);
            place.granted.push(grant);
        }
    }

    /// The number that the next batch gets.
    pub(super) fn next_number(&self) -> u64 {
        self.sent + 1
    }

    /// A batch goes where it was taken for; returns its number, and what it needs on its way.
    pub(super) fn send(&mut self, taken: Taken, sent: Sent) -> (u64, Slot, InFlight) {
        self.sent += 1;
        let Taken { slot, inflight, grant } = taken;
        let number = self.sent;
        if let Some(place) = self.list.iter_mut().find(|place| place.is_of(&grant, &slot)) {
            let Sent { class, started_us, end_us } = sent;
            place.last_used = number;
            place.running.push(Running { number, class, started_us, end_us, grant });
        }
        (number, slot, inflight)
    }

    /// Slots that can be used, and those of batches under way elsewhere.
    pub(super) fn slots(&self) -> usize {
        self.list.iter().map(|place| place.counted_slots(&self.handle) as usize).sum()
    }

    /// Most rows that a batch may have anywhere.
    pub(super) fn most_rows(&self) -> u32 {
        let good = self.list.iter().filter(|place| place.is_good());
        good.map(|place| place.pattern.profile.max_rows).max().unwrap_or(0)
    }

    /// Batches in flight.
    pub(super) fn running(&self) -> usize {
        self.list.iter().map(|place| place.running.len()).sum()
    }

    /// What the forecast is to say.
    pub(super) fn room(&self) -> Room {
        let mut room = Room { slots: 0, free: 0, first_end_us: 0, share: 1.0 };
        let mut own_slots = 0.0;
        let mut first_end_us = u64::MAX;
        for place in &self.list {
            let slots = place.counted_slots(&self.handle);
            room.slots += slots;
            if !place.is_good() {
                own_slots += f64::from(slots);
                let ends = place.running.iter().map(|running| running.end_us);
                first_end_us = ends.fold(first_end_us, u64::min);
                continue;
            }
            let view = place.gate.view(self.handle.number);
            own_slots += f64::from(slots) * view.share;
            room.free += slots.saturating_sub(view.running);
            let own = place.running.iter().map(|running| running.end_us);
            let first = own.chain(view.first_end_us).min();
            let turn_us = view.before_turn_us / u64::from(slots.max(1));
            first_end_us = first_end_us.min(first.map_or(u64::MAX, |end_us| end_us.saturating_add(turn_us)));
        }
        room.first_end_us = if first_end_us == u64::MAX { 0 } else { first_end_us };
        if room.slots > 0 {
            room.share = own_slots / f64::from(room.slots);
        }
        room
    }

    /// The place to try next: with a slot that is ours already, else by work; none where all are waited for.
    fn choose(&self, wish: Wish) -> Option<usize> {
        let open = |granted: bool| {
            let open = move |place: &Place| {
                place.is_good()
                    && Self::is_wanted(&self.bound, place, wish.waiting)
                    && if granted { !place.granted.is_empty() } else { !place.waits }
            };
            self.list.iter().enumerate().filter(move |(_, place)| open(place))
        };
        let load = |(index, place): (usize, &Place)| (index, place.load(wish.now_us));
        for granted in [true, false] {
            let mut places = open(granted);
            let Some(first) = places.next() else { continue };
            let Some(second) = places.next() else { return Some(first.0) };
            let loads: Vec<_> = [first, second].into_iter().chain(places).map(load).collect();
            return least_work(&loads, wish.next.expected_us);
        }
        None
    }
}

impl Drop for Places {
    fn drop(&mut self) {
        for place in &mut self.list {
            place.gate.leave(self.handle.number);
        }
    }
}

impl Place {
    fn new(gate: Arc<SlotGate>, slot: Slot) -> Self {
        Self {
            gate,
            pattern: slot.without_connection(),
            idle: vec![slot],
            granted: Vec::new(),
            running: Vec::new(),
            ended: Vec::new(),
            row_seconds: None,
            in_doubt: false,
            is_passed_over: false,
            waits: false,
            pace: None,
            last_used: 0,
        }
    }

    /// Whose state is here.
    fn home(&self) -> Home {
        Home::of(&self.pattern)
    }

    /// Whether both are from here. Epochs of one model server share a gate.
    fn is_of(&self, grant: &Grant, slot: &Slot) -> bool {
        grant.is_of(&self.gate) && self.pattern.epoch.number == slot.epoch.number
    }

    fn is_good(&self) -> bool {
        !self.in_doubt && !self.is_passed_over && self.pattern.is_current()
    }

    /// Slots of the model server: as set, or as found out so far.
    fn slots(&self, handle: &ModelHandle) -> u32 {
        match handle.settings.now().batching.slots_per_upstream as u32 {
            0 => self.gate.view(handle.number).slots.max(1),
            slots => slots,
        }
    }

    /// Slots that the queue can count on: all of a good place, of another one those that are still in use.
    fn counted_slots(&self, handle: &ModelHandle) -> u32 {
        if self.is_good() { self.slots(handle) } else { self.running.len() as u32 }
    }

    fn rest(&mut self, user: u64) {
        // First, so that what goes back is not granted to the same queue again.
        if std::mem::take(&mut self.waits) {
            self.gate.withdraw(user);
        }
        self.granted.clear();
    }

    fn load(&self, now_us: u64) -> Load {
        let remaining = self.running.iter().map(|running| running.end_us.saturating_sub(now_us));
        Load {
            remaining_us: remaining.sum(),
            pace: self.pace.unwrap_or(1.0),
            inflight: self.pattern.upstream.inflight(),
            last_used: self.last_used,
        }
    }
}

fn claim<'a>(handle: &'a Arc<ModelHandle>, at: &Slot, wish: Wish) -> Claim<'a, ModelHandle> {
    let settings = handle.settings.now();
    let (slots, weight) = (settings.batching.slots_per_upstream as u32, settings.batching.of_model(&handle.model).slot_weight);
    Claim {
        user: handle,
        weight,
        slots,
        epoch: at.epoch.number,
        hint: at.profile.slots_hint.unwrap_or(1),
        next: wish.next,
        now_us: wish.now_us,
    }
}

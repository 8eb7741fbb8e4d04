//! The model servers that have one model warm, and what runs on each of them.

#[cfg(test)]
mod tests;

use super::outside::{Pool, ServerEpoch, Slot};
use super::pending::Bound;
use super::room::Room;
use super::server::{Running, Server};
use crate::{NextBatch, ShapeClass, SlotRequest, least_work};

/// All model servers of one queue.
#[derive(Debug)]
pub(super) struct ServerSet<S: Slot> {
    list: Vec<Server<S>>,
    /// Batches sent so far.
    sent: u64,
    /// Model servers that there are, ready or not.
    members: usize,
    /// Slots of each model server; 0: to be found out.
    slots_per_server: u32,
    /// Weight of this model among those that share the slots.
    slot_weight: u32,
}

/// The right to send one batch, and where to.
pub(super) struct Taken<S: Slot> {
    pub(super) slot: S,
    pub(super) inflight: S::InFlight,
    grant: <S::Pool as Pool>::Grant,
}

/// What slots are wanted for.
#[derive(Debug, Clone, Copy)]
pub(super) struct SlotDemand {
    pub(super) now_us: u64,
    pub(super) next: NextBatch,
    /// Requests that wait.
    pub(super) waiting: usize,
}

/// Prediction for a batch that is sent.
pub(super) struct Predicted {
    pub(super) class: Option<ShapeClass>,
    pub(super) started_us: u64,
    /// When it is expected to end.
    pub(super) end_us: u64,
}

impl<S: Slot> ServerSet<S> {
    pub(super) fn new(slots_per_server: u32, slot_weight: u32) -> Self {
        Self { list: Vec::new(), sent: 0, members: 0, slots_per_server, slot_weight }
    }

    /// Takes other settings over. Slots are requested again, which reports the settings to the pools.
    pub(super) fn set(&mut self, slots_per_server: u32, slot_weight: u32) {
        (self.slots_per_server, self.slot_weight) = (slots_per_server, slot_weight);
        self.list.iter_mut().for_each(Server::request_again);
    }

    /// Takes in a slot that a monitor has given: a new server, or one that is no longer in doubt.
    pub(super) fn add(&mut self, slot: S, pool: S::Pool) {
        self.drop_void();
        match self.list.iter_mut().find(|server| server.id() == slot.server()) {
            Some(server) => server.trust(slot, self.slots_per_server),
            None => self.list.push(Server::new(pool, slot)),
        }
        self.pass_over();
    }

    /// Takes in the number of model servers, ready or not.
    pub(super) fn set_members(&mut self, members: usize) {
        self.members = members;
        self.pass_over();
    }

    /// Returns the number of model servers that have not reported yet whether they have the model, while all others
    /// lack it.
    pub(super) fn unsure(&self) -> usize {
        match self.absent_at() {
            0 => 0,
            absent => self.members.saturating_sub(absent),
        }
    }

    /// Passes servers without the model over where another one has it or may have it: requests that they would refuse
    /// are held until that is known.
    fn pass_over(&mut self) {
        let has_it = |server: &Server<S>| server.template.is_current() && !server.template.is_absent();
        let may_be_elsewhere = self.list.iter().any(has_it) || self.unsure() > 0;
        for server in &mut self.list {
            server.set_passed_over(may_be_elsewhere && server.template.is_absent());
        }
    }

    /// Returns the number of servers, where none of them has the model; else 0.
    pub(super) fn absent_at(&self) -> usize {
        let current = || self.list.iter().filter(|server| server.template.is_current());
        if current().all(|server| server.template.is_absent()) { current().count() } else { 0 }
    }

    /// Forgets epochs that are over, once nothing runs there.
    pub(super) fn drop_void(&mut self) {
        for server in &mut self.list {
            if !server.template.is_current() {
                server.idle.clear();
                server.rest();
            }
        }
        let gone = |server: &mut Server<S>| {
            !server.template.is_current() && server.running.is_empty() && server.finished.is_empty()
        };
        let gone: Vec<Server<S>> = self.list.extract_if(.., gone).collect();
        for server in gone {
            // The server may have come back, as another epoch behind the same pool.
            if !self.list.iter().any(|other| other.pool.is_same(&server.pool)) {
                server.pool.leave();
            }
        }
        self.pass_over();
    }

    /// Returns whether this model server is still there, as it was. One that lacks the model has no state of it either.
    pub(super) fn has(&self, home: ServerEpoch) -> bool {
        self.list.iter().filter(|server| server.has_state()).any(|server| server.id() == home)
    }

    /// Leaves the slots of servers to which none of `waiting` requests could go to others.
    pub(super) fn rest_unwanted(&mut self, bound: &Bound, waiting: usize) {
        for server in &mut self.list {
            if !bound.leaves_any_for(server.id(), waiting) {
                server.rest();
            }
        }
    }

    /// Takes in a slot that was requested before. It may come when its server is gone; then it goes back at once.
    pub(super) fn granted(&mut self, grant: <S::Pool as Pool>::Grant) {
        let from = self.list.iter_mut().find(|server| server.pool.has_granted(&grant) && server.is_good());
        if let Some(server) = from {
            server.requested(Some(grant));
        }
    }

    /// Notes that a batch of `rows` rows has ended; returns the class of its requests. `slot`: `None` where its
    /// connection failed.
    pub(super) fn ended(
        &mut self,
        number: u64,
        slot: Option<S>,
        rows: u32,
        now_us: u64,
    ) -> Option<ShapeClass> {
        let (server, at) = self.list.iter_mut().find_map(|server| {
            let at = server.running.iter().position(|running| running.number == number)?;
            Some((server, at))
        })?;
        server.ended(at, slot, rows, now_us)
    }

    /// Notes how the time of a batch at a model server compares with the prediction.
    pub(super) fn paced(&mut self, at: u64, ratio: f64) {
        for server in &mut self.list {
            if server.id().server == at { server.paced(ratio) } else { server.pace_fades() }
        }
    }

    /// Gives back the slots of batches that have ended; where more is wanted, one is requested in the same step.
    pub(super) fn settle(&mut self, bound: &Bound, demand: Option<SlotDemand>) {
        for server in &mut self.list {
            while let Some((grant, used)) = server.finished.pop() {
                let demand = demand
                    .filter(|demand| server.is_good() && bound.leaves_any_for(server.id(), demand.waiting));
                match demand {
                    Some(demand) => {
                        let request =
                            slot_request(self.slots_per_server, self.slot_weight, &server.template, demand);
                        let granted = server.pool.exchange(Some((grant, used)), &request);
                        server.requested(granted);
                    }
                    None => server.pool.give_back(grant, used),
                }
            }
        }
        if demand.is_none() {
            self.rest();
        }
    }

    /// Gives slots back, and requests none: nothing is left to send.
    pub(super) fn rest(&mut self) {
        self.list.iter_mut().for_each(Server::rest);
    }

    /// Takes a slot at the server with the least work of those that have one now. Where none has, slots are requested of
    /// all.
    pub(super) fn take(&mut self, bound: &Bound, demand: SlotDemand) -> Option<Taken<S>> {
        loop {
            let index = self.choose(bound, demand)?;
            let server = &mut self.list[index];
            let grant = match server.take_granted() {
                Some(grant) => grant,
                None => {
                    let request =
                        slot_request(self.slots_per_server, self.slot_weight, &server.template, demand);
                    let Some(grant) = server.pool.exchange(None, &request) else {
                        server.requested(None);
                        continue;
                    };
                    grant
                }
            };
            let slot = server.idle.pop().unwrap_or_else(|| server.template.another());
            match slot.begin() {
                Some(inflight) => return Some(Taken { slot, inflight, grant }),
                // The epoch ended just now; the grant goes back.
                None => self.drop_void(),
            }
        }
    }

    /// Puts back what was taken for nothing.
    pub(super) fn untake(&mut self, taken: Taken<S>) {
        let Taken { slot, inflight, grant } = taken;
        drop(inflight);
        let from = self.list.iter_mut().find(|server| server.is_of(&grant, &slot) && server.is_good());
        if let Some(server) = from {
            server.idle.push(slot);
            server.put_back(grant);
        }
    }

    /// Returns the number that the next batch gets.
    pub(super) fn next_number(&self) -> u64 {
        self.sent + 1
    }

    /// Books a batch where a slot was taken for it; returns its number, and what it needs on its way.
    pub(super) fn send(&mut self, taken: Taken<S>, predicted: Predicted) -> (u64, S, S::InFlight) {
        self.sent += 1;
        let Taken { slot, inflight, grant } = taken;
        let number = self.sent;
        if let Some(server) = self.list.iter_mut().find(|server| server.is_of(&grant, &slot)) {
            let Predicted { class, started_us, end_us } = predicted;
            server.last_used = number;
            server.pool.expect_end(&grant, end_us);
            server.running.push(Running { number, class, started_us, end_us, grant });
        }
        (number, slot, inflight)
    }

    /// Returns the slots that can be used, and those of batches under way elsewhere.
    pub(super) fn slots(&self) -> usize {
        self.list.iter().map(|server| server.counted_slots(self.slots_per_server) as usize).sum()
    }

    /// Returns the most rows that a batch may have anywhere.
    pub(super) fn most_rows(&self) -> u32 {
        let good = self.list.iter().filter(|server| server.is_good());
        good.map(|server| server.template.max_rows()).max().unwrap_or(0)
    }

    /// Returns the batches in flight.
    pub(super) fn running(&self) -> usize {
        self.list.iter().map(|server| server.running.len()).sum()
    }

    /// Returns the room at all servers together.
    pub(super) fn room(&self) -> Room {
        Room::of(self.list.iter(), self.slots_per_server)
    }

    /// Chooses the server to try next: one with a slot that is granted already, else by work; `None` where slots are
    /// requested of all.
    fn choose(&self, bound: &Bound, demand: SlotDemand) -> Option<usize> {
        let open = |granted: bool| {
            let open = move |server: &Server<S>| {
                server.is_good()
                    && bound.leaves_any_for(server.id(), demand.waiting)
                    && if granted { server.is_granted() } else { server.may_request() }
            };
            self.list.iter().enumerate().filter(move |(_, server)| open(server))
        };
        let load = |(index, server): (usize, &Server<S>)| (index, server.load(demand.now_us));
        for granted in [true, false] {
            let mut servers = open(granted);
            let Some(first) = servers.next() else { continue };
            let Some(second) = servers.next() else { return Some(first.0) };
            let loads: Vec<_> = [first, second].into_iter().chain(servers).map(load).collect();
            return least_work(&loads, demand.next.expected_us);
        }
        None
    }
}

impl<S: Slot> Drop for ServerSet<S> {
    fn drop(&mut self) {
        for server in &self.list {
            server.pool.leave();
        }
    }
}

fn slot_request<S: Slot>(slots: u32, weight: u32, at: &S, demand: SlotDemand) -> SlotRequest {
    SlotRequest {
        weight,
        slots,
        epoch: at.server().epoch,
        hint: at.slots_hint().unwrap_or(1),
        next: demand.next,
        now_us: demand.now_us,
    }
}

//! The owner of one model's queue: the only task that knows what waits, which slots are free and how fast the
//! model is. It decides by `sluice_batch_policy` and leaves the doing to a task per batch.

mod cutting;
mod deferring;
mod expiry;
mod intake;
mod limits;
mod steps;
mod suspecting;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use sluice_batch_policy::{Offenders, Suspects, WaitQueue};

use super::caller::Caller;
use super::curves::Curves;
use super::dispatch::Finished;
use super::gauges::{View, Windows};
use super::handle::Event;
use super::places::Places;
use super::sequence::Sequences;
use super::{Entry, Forecast, ModelHandle};
use deferring::Deferring;
use intake::Key;
use limits::Limits;

/// Runs until the model is retired.
pub(crate) async fn run(handle: Arc<ModelHandle>) {
    let mut owner = Owner::new(handle);
    loop {
        owner.turn();
        if owner.retired {
            break;
        }
        if owner.handle.listen(owner.wants_arrivals()) {
            continue;
        }
        match owner.next_look_us() {
            None => owner.handle.woken().await,
            Some(at_us) => {
                let at = owner.handle.clock.instant(at_us);
                // Either way the next turn sees what there is to do.
                let _ = tokio::time::timeout_at(at, owner.handle.woken()).await;
            }
        }
    }
    owner.handle.retire();
}

/// Offenders that are remembered.
const MOST_OFFENDERS: usize = 256;

struct Owner {
    handle: Arc<ModelHandle>,
    pending: WaitQueue<Key, Box<Entry>>,
    /// Requests of calls that failed; they are served before what is pending.
    suspects: Suspects<Box<Entry>>,
    /// Those whose requests share no batch with others'.
    offenders: Offenders<Caller>,
    /// When a batch was last answered well.
    served_us: u64,
    places: Places,
    sequences: Sequences,
    next_alone: u64,
    curves: Curves,
    limits: Limits,
    deferring: Deferring,
    /// There was no slot when it was last looked.
    is_held: bool,
    /// Requests that arrived before this were held for want of a slot; their deadline is the hold time.
    held_before_us: u64,
    latched: bool,
    windows: Windows,
    /// When it was last looked for clients that have gone.
    swept_us: u64,
    retired: bool,
}

impl Owner {
    fn new(handle: Arc<ModelHandle>) -> Self {
        let now_us = handle.clock.now_us();
        let limits = Limits::of(&handle);
        Self {
            pending: WaitQueue::new(),
            suspects: Suspects::default(),
            offenders: Offenders::new(MOST_OFFENDERS),
            served_us: 0,
            places: Places::new(Arc::clone(&handle)),
            sequences: Sequences::new(limits.sequences),
            next_alone: 0,
            curves: Curves::new(),
            limits,
            deferring: Deferring::new(now_us),
            is_held: false,
            held_before_us: 0,
            latched: false,
            windows: Windows::new(now_us),
            swept_us: now_us,
            retired: false,
            handle,
        }
    }

    /// Everything that can be done now.
    fn turn(&mut self) {
        let mut changed = false;
        while let Some(event) = self.handle.next_event() {
            changed |= self.on(event);
        }
        self.refuse_lost();
        self.pull();
        let goes = self.suspects.may_go() || (!self.pending.is_empty() && !self.defers());
        let wish = goes.then(|| self.wish());
        self.places.settle(wish);
        while self.dispatch_suspects() || (!self.pending.is_empty() && !self.defers() && self.dispatch_one())
        {
            changed = true;
            self.pull();
        }
        let is_held = self.slots() == 0;
        if is_held && !self.is_held {
            self.hold_all();
        }
        self.is_held = is_held;
        let is_waiting = !self.pending.is_empty() || self.suspects.are_waiting();
        if is_held {
            self.latched |= is_waiting;
        } else if !is_waiting {
            self.latched = false;
        }
        self.expire();
        if self.pending.is_empty() && !self.suspects.may_go() {
            self.places.rest();
        } else {
            self.places.rest_unwanted(self.waiting());
        }
        if changed {
            self.publish();
        }
    }

    /// Takes a message in; true where the forecast changes with it.
    fn on(&mut self, event: Event) -> bool {
        match event {
            Event::Slot(slot) => {
                self.places.drop_void();
                self.with_new_slots(|places| places.add(slot));
            }
            Event::Granted(grant) => self.places.granted(grant),
            Event::Warmed(times) => {
                for (rows, seconds) in times {
                    self.curves.observe(None, rows, seconds);
                }
            }
            Event::Finished(finished) => self.finished(finished),
            Event::Again(entries) => self.again(entries),
            Event::Overdue { number, copies } => self.overdue(number, copies),
            Event::StepOver(key, end) => self.step_over(&key, end),
            Event::SlotsChanged => self.with_new_slots(Places::drop_void),
            Event::Members(members) => self.with_new_slots(|places| places.set_members(members)),
            Event::SettingsChanged => {
                self.limits = Limits::of(&self.handle);
                self.sequences.set_limits(self.limits.sequences);
                self.places.claim_again();
            }
            Event::Refresh(done) => {
                self.set_gauges();
                let _ = done.send(());
                return false;
            }
            Event::Retire => self.retired = true,
        }
        true
    }

    /// There may be slots now where there were none: what came before was held.
    fn with_new_slots(&mut self, change: impl FnOnce(&mut Places)) {
        let had_none = self.places.slots() == 0;
        change(&mut self.places);
        if had_none && self.places.slots() > 0 {
            self.held_before_us = self.handle.clock.now_us();
        }
    }

    fn finished(&mut self, finished: Finished) {
        let rows = finished.times.iter().map(|(rows, _)| rows).sum();
        let now_us = self.handle.clock.now_us();
        let went_well = finished.slot.is_some() && finished.suspects.is_empty();
        let class = self.places.ended(finished.number, finished.slot, rows, now_us);
        if !finished.times.is_empty() {
            self.served_us = now_us;
        }
        for (rows, seconds) in finished.times {
            if let Some(curve) = self.curves.of(class) {
                self.places.paced(&finished.upstream, seconds / curve.seconds(rows));
            }
            self.curves.observe(class, rows, seconds);
            self.latched = false;
        }
        self.suspects.ended(finished.number, went_well);
        self.again(finished.again);
        finished.unsent_suspects.into_iter().for_each(|group| self.put_back(group));
        for (fault, group) in finished.suspects {
            self.suspect(fault, group);
        }
        for (caller, since_us) in finished.offenders {
            self.convict(caller, since_us, now_us);
        }
    }

    /// When to look again although nothing happens: what waits for more has waited for long enough, or is due.
    fn next_look_us(&mut self) -> Option<u64> {
        let expiry_us = self.next_expiry_us()?;
        Some(self.deferring.until_us().map_or(expiry_us, |until_us| until_us.min(expiry_us)))
    }

    /// Arrivals matter where nothing is known to wait, or what waits waits for more: else it waits for a slot. What
    /// waits for one server's leaves the others' to whatever comes.
    fn wants_arrivals(&self) -> bool {
        self.pending.is_empty() || self.deferring.until_us().is_some() || self.places.are_bound()
    }

    fn slots(&self) -> usize {
        self.places.slots()
    }

    fn forecast(&mut self) -> Forecast {
        let (objective_us, rows_per_second) = (self.batch_objective_us(), self.rows_per_second());
        let sizes = &self.limits.sizes;
        let room = self.places.room();
        Forecast {
            curve: self.curves.common(),
            lanes: self.curves.lanes(objective_us, sizes),
            slots: room.slots,
            free_slots: room.free,
            slot_free_at_us: room.first_end_us,
            limit_rows: self.curves.lane(None, objective_us, sizes).limit_rows,
            rows_per_second,
            share: room.share,
            absent_at: self.places.absent_at(),
        }
    }

    fn publish(&mut self) {
        let now_us = self.handle.clock.now_us();
        self.windows.set_busy(now_us, self.places.running() as u32, self.slots() as u32);
        let forecast = self.forecast();
        self.handle.publish(forecast);
    }

    fn set_gauges(&mut self) {
        let now_us = self.handle.clock.now_us();
        self.sequences.forget_idle(now_us);
        self.windows.count(&self.handle, now_us);
        let view = View {
            forecast: self.forecast(),
            oldest_wait_us: self.pending.oldest_wait_us(now_us),
            inflight: self.places.running(),
            latched: self.latched,
        };
        self.windows.set_gauges(&self.handle, &view, now_us);
        self.curves.set_gauges(&self.handle);
    }
}

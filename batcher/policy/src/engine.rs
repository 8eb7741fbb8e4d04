//! The queue of one model as a state machine: events in, effects out. It has no clock, no tasks and no sockets; the
//! program that drives it says what time it is.
//!
//! ```text
//!  arrivals ──▶ pending (by what may share a batch) ──cut──▶ a slot of a server ──Effect::Send──▶ (the program)
//!                  ▲  steps wait for their turn                    ▲                                   │
//!                  └── suspects of failed calls ◀────QueueEvent::Ended, Granted, Slot … ◀──────────────┘
//! ```
//!
//! | to change … | look in |
//! |---|---|
//! | when a batch is cut, and how large it is | `cutting` (which calls [`crate::cut`]) |
//! | waiting for more rows although a slot is free | `deferral` |
//! | which model server gets a batch | `servers` |
//! | when a model server may be used | `server` (its `State`) |
//! | which requests share a batch | `pending` |
//! | what happens to requests that wait for too long | `expiry` |
//! | steps of sequences | `steps` |
//! | requests of calls that failed | `suspecting` |
//! | what admission and gauges know | `forecast`, `room` |
//! | what the program has to provide | `outside` |

mod curves;
mod cutting;
mod deferral;
mod event;
mod expiry;
mod forecast;
mod intake;
mod outside;
mod pending;
mod room;
mod server;
mod servers;
mod settings;
mod steps;
mod suspecting;

pub use event::{BatchEnd, Effect, QueueEvent, Release, SentBatch, Unserved};
pub use forecast::Forecast;
pub use outside::{Pool, Request, ServerEpoch, Slot};
pub use settings::EngineSettings;

use crate::{Sequences, ServiceCurve, ShapeClass, Suspects, Waiting};
use curves::Curves;
use deferral::Deferral;
use pending::Pending;
use servers::ServerSet;

/// The queue of one model. After each change, [`Engine::turn`] does all that can be done then.
#[derive(Debug)]
pub struct Engine<R: Request, S: Slot> {
    settings: EngineSettings,
    pending: Pending<R>,
    /// Requests of calls that failed; they are served before those that are pending.
    suspects: Suspects<R>,
    /// When a batch was last answered well.
    served_us: u64,
    servers: ServerSet<S>,
    sequences: Sequences<R::Sequence, ServerEpoch, R>,
    curves: Curves,
    deferral: Deferral,
    /// Whether there was no slot at the last turn.
    is_held: bool,
    /// Requests that arrived before this instant were held for want of a slot; their deadline is the hold time.
    held_before_us: u64,
    latched: bool,
    /// When it was last looked for clients that have gone.
    swept_us: u64,
    /// Whether the forecast has changed since it was published.
    changed: bool,
    effects: Vec<Effect<R, S>>,
}

/// When an engine is to have its next turn, unless something happens before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NextTurn {
    /// At this instant, microseconds; `None`: only when something happens.
    pub at_us: Option<u64>,
    /// A request that arrives and is due before this instant is a reason for a turn, microseconds; 0: none is.
    pub at_due_before_us: u64,
}

impl<R: Request, S: Slot> Engine<R, S> {
    /// Creates an empty queue without model servers.
    pub fn new(now_us: u64, settings: EngineSettings) -> Self {
        Self {
            pending: Pending::new(),
            suspects: Suspects::default(),
            served_us: 0,
            servers: ServerSet::new(settings.slots_per_server, settings.slot_weight),
            sequences: Sequences::new(settings.sequences),
            curves: Curves::new(),
            settings,
            deferral: Deferral::new(now_us),
            is_held: false,
            held_before_us: 0,
            latched: false,
            swept_us: now_us,
            changed: false,
            effects: Vec::new(),
        }
    }

    /// Takes in what has happened. Call [`Engine::turn`] after it, or after several of them.
    pub fn handle(&mut self, now_us: u64, event: QueueEvent<R, S>) {
        self.changed = true;
        match event {
            QueueEvent::Slot { slot, pool } => {
                self.servers.drop_void();
                self.with_new_slots(now_us, |servers| servers.add(slot, pool));
            }
            QueueEvent::Granted(grant) => self.servers.granted(grant),
            QueueEvent::Warmed(times) => {
                for (rows, seconds) in times {
                    self.curves.observe(None, rows, seconds);
                }
            }
            QueueEvent::Ended(end) => self.ended(now_us, end),
            QueueEvent::Again(requests) => self.again(now_us, requests),
            QueueEvent::Overdue { number, copies } => self.overdue(number, copies),
            QueueEvent::StepOver(key, end) => self.step_over(now_us, &key, end),
            QueueEvent::SlotsChanged => self.with_new_slots(now_us, ServerSet::drop_void),
            QueueEvent::Members(members) => {
                self.with_new_slots(now_us, |servers| servers.set_members(members));
            }
            QueueEvent::SettingsChanged(settings) => {
                self.sequences.set_limits(settings.sequences);
                self.servers.set(settings.slots_per_server, settings.slot_weight);
                self.settings = settings;
            }
        }
    }

    /// Does all that can be done now: takes arrivals in, sends batches, fails requests that are due. Arrivals are looked
    /// for again after each batch.
    pub fn turn(&mut self, now_us: u64, arrivals: &mut impl Iterator<Item = R>) {
        self.fail_lost();
        self.pull(now_us, arrivals);
        let goes = self.suspects.may_go() || (!self.pending.queue.is_empty() && !self.defers(now_us));
        let demand = goes.then(|| self.demand(now_us));
        self.servers.settle(&self.pending.bound, demand);
        while self.dispatch_suspects(now_us)
            || (!self.pending.queue.is_empty() && !self.defers(now_us) && self.dispatch_one(now_us))
        {
            self.changed = true;
            self.pull(now_us, arrivals);
        }
        let is_held = self.servers.slots() == 0;
        if is_held && !self.is_held {
            self.hold_all(now_us);
        }
        self.is_held = is_held;
        let is_waiting = !self.pending.queue.is_empty() || self.suspects.are_waiting();
        if is_held {
            self.latched |= is_waiting;
        } else if !is_waiting {
            self.latched = false;
        }
        self.expire(now_us);
        if self.pending.queue.is_empty() && !self.suspects.may_go() {
            self.servers.rest();
        } else {
            self.servers.rest_unwanted(&self.pending.bound, self.waiting());
        }
        if std::mem::take(&mut self.changed) {
            let publish = Effect::Publish {
                forecast: self.forecast(now_us),
                running: self.servers.running(),
                slots: self.servers.slots(),
            };
            self.effects.push(publish);
        }
    }

    /// Takes out what is to be done, in order.
    pub fn effects(&mut self) -> std::vec::Drain<'_, Effect<R, S>> {
        self.effects.drain(..)
    }

    /// Returns whether an arrival is a reason for a turn: where nothing is known to wait, or requests wait for more rows.
    /// Else all wait for a slot. Requests that wait for one server's slot leave the others' to whatever arrives.
    pub fn wants_arrivals(&self) -> bool {
        self.pending.queue.is_empty() || self.deferral.until_us().is_some() || !self.pending.bound.is_empty()
    }

    /// Returns when the next turn is due.
    pub fn next_turn(&self) -> NextTurn {
        let earliest_us = self.earliest_deadline_us();
        let expiry_us = earliest_us.map(|due_us| self.next_expiry_us(due_us));
        let deferred_us = self.deferral.until_us();
        // While requests are held, arrivals are due later than those that wait; so they are no reason for a turn.
        let is_held = self.servers.slots() == 0;
        NextTurn {
            at_us: expiry_us.map(|expiry_us| deferred_us.map_or(expiry_us, |us| us.min(expiry_us))),
            at_due_before_us: if is_held { 0 } else { earliest_us.unwrap_or(0) },
        }
    }

    /// Returns what a new request has to expect.
    pub fn forecast(&mut self, now_us: u64) -> Forecast {
        let (objective_us, rows_per_second) = (self.batch_objective_us(), self.rows_per_second(now_us));
        let sizes = &self.settings.sizes;
        let room = self.servers.room();
        Forecast {
            curve: self.curves.common(),
            lanes: self.curves.lanes(objective_us, sizes),
            slots: room.slots,
            free_slots: room.free,
            slot_free_at_us: room.first_end_us,
            limit_rows: self.curves.lane(None, objective_us, sizes).limit_rows,
            rows_per_second,
            share: room.share,
            absent_at: self.servers.absent_at(),
        }
    }

    /// Returns how long the request that came first has waited, microseconds; 0 where none waits. Looks at each request.
    pub fn oldest_wait_us(&self, now_us: u64) -> u64 {
        self.pending.queue.oldest_wait_us(now_us)
    }

    /// Returns the number of batches in flight.
    pub fn running(&self) -> usize {
        self.servers.running()
    }

    /// Returns whether requests have waited without any slot, and none has been served since.
    pub fn is_latched(&self) -> bool {
        self.latched
    }

    /// Forgets sequences that have had no step for long.
    pub fn forget_idle_sequences(&mut self, now_us: u64) {
        self.sequences.forget_idle(now_us);
    }

    /// Returns the curves of the shape classes that have one of their own.
    pub fn class_curves(&self) -> impl Iterator<Item = (ShapeClass, ServiceCurve)> {
        self.curves.classes()
    }

    /// Takes out the shape classes that were forgotten since the last call.
    pub fn take_forgotten_classes(&mut self) -> Vec<ShapeClass> {
        self.curves.take_forgotten()
    }

    /// Makes a change after which there may be slots where there were none: requests that came before were held.
    fn with_new_slots(&mut self, now_us: u64, change: impl FnOnce(&mut ServerSet<S>)) {
        let had_none = self.servers.slots() == 0;
        change(&mut self.servers);
        if had_none && self.servers.slots() > 0 {
            self.held_before_us = now_us;
        }
    }

    fn ended(&mut self, now_us: u64, end: BatchEnd<R, S>) {
        let rows = end.times.iter().map(|(rows, _)| rows).sum();
        let went_well = end.slot.is_some() && end.suspects.is_empty();
        let class = self.servers.ended(end.number, end.slot, rows, now_us);
        if !end.times.is_empty() {
            self.served_us = now_us;
        }
        for (rows, seconds) in end.times {
            if let Some(curve) = self.curves.of(class) {
                self.servers.paced(end.server, seconds / curve.seconds(rows));
            }
            self.curves.observe(class, rows, seconds);
            self.latched = false;
        }
        self.suspects.ended(end.number, went_well);
        self.again(now_us, end.again);
        end.unsent_suspects.into_iter().for_each(|group| self.put_back(group));
        for (fault, group) in end.suspects {
            self.suspect(fault, group);
        }
        for (sender, since_us) in end.offenders {
            self.convict(now_us, sender, since_us);
        }
    }
}

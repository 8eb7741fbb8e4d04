//! The owner of one model's queue: the task that drives its [`Engine`]. It hands on what has happened, does what the
//! engine has decided, and sleeps until there is something to do.

#[cfg(test)]
mod tests;

use std::sync::Arc;

use sluice_batch_policy::{
    Effect, Engine, EngineSettings, Forecast, Release, SentBatch, SequenceLimits, Unserved,
};

use super::adapters::ModelPool;
use super::gauges::{self, View, Windows};
use super::sequence::refusal;
use super::{Entry, ModelHandle, Reply, dispatch};
use super::{Message, QueueEvent};
use crate::failure::{Failure, missing_elsewhere};
use crate::metrics::RejectReason;
use crate::observe::request_trace;
use crate::retry_after::RetryAfter;
use crate::settings::{Deferral, SlotSharing};
use crate::slots::SharedSlotPool;
use crate::upstream::slot::Slot;

/// Runs until the model is retired.
pub(crate) async fn run(handle: Arc<ModelHandle>) {
    let mut owner = Owner::new(handle);
    loop {
        owner.turn();
        if owner.retired {
            break;
        }
        if owner.handle.listen(owner.engine.wants_arrivals()) {
            continue;
        }
        let next = owner.engine.next_turn();
        owner.handle.set_expiry_us(next.at_due_before_us);
        match next.at_us {
            None => owner.handle.woken().await,
            Some(at_us) => {
                let at = owner.handle.clock.instant(at_us);
                // Either way the next turn finds what there is to do.
                let _ = tokio::time::timeout_at(at, owner.handle.woken()).await;
            }
        }
    }
    owner.handle.retire();
}

struct Owner {
    handle: Arc<ModelHandle>,
    engine: Engine<Box<Entry>, Slot>,
    hold_ms: u64,
    windows: Windows,
    retired: bool,
}

impl Owner {
    fn new(handle: Arc<ModelHandle>) -> Self {
        let now_us = handle.clock.now_us();
        let settings = engine_settings(&handle);
        Self {
            hold_ms: settings.hold_us / 1000,
            engine: Engine::new(now_us, settings),
            windows: Windows::new(now_us),
            retired: false,
            handle,
        }
    }

    /// Does everything that can be done now.
    fn turn(&mut self) {
        let now_us = self.handle.clock.now_us();
        while let Some(message) = self.handle.next_message() {
            self.take_in(now_us, message);
        }
        let handle = &self.handle;
        let mut arrivals = std::iter::from_fn(|| {
            let mut entry = handle.next_entry()?;
            if let Some(step) = &mut entry.sequence {
                step.reports_to(handle);
            }
            Some(entry)
        });
        self.engine.turn(now_us, &mut arrivals);
        for effect in self.engine.effects() {
            match effect {
                Effect::Send(batch) => send(handle, now_us, batch),
                Effect::Fail { request, reason } => fail(handle, now_us, self.hold_ms, *request, reason),
                Effect::Gone(request) => handle.left(&request),
                Effect::SetApart(caller) => {
                    tracing::warn!(model = %handle.model, ?caller, "A request fails its calls even alone; its sender's requests share no batch with others' for a while.");
                }
                Effect::Publish { forecast, running, slots } => {
                    self.windows.set_busy(now_us, running as u32, slots as u32);
                    handle.publish(forecast);
                }
            }
        }
    }

    fn take_in(&mut self, now_us: u64, message: Message) {
        match message {
            Message::Event(mut event) => {
                count_in(&self.handle, &mut event);
                self.engine.handle(now_us, event);
            }
            Message::Slot(slot) => {
                let pool = match self.handle.settings.now().batching.slot_sharing {
                    SlotSharing::Shared => Arc::clone(slot.upstream.slots()),
                    SlotSharing::PerModel => SharedSlotPool::new(0),
                };
                let pool = ModelPool { pool, model: Arc::clone(&self.handle) };
                self.engine.handle(now_us, QueueEvent::Slot { slot, pool });
            }
            Message::SettingsChanged => {
                let settings = engine_settings(&self.handle);
                self.hold_ms = settings.hold_us / 1000;
                self.engine.handle(now_us, QueueEvent::SettingsChanged(settings));
            }
            Message::Refresh(done) => {
                self.set_gauges(now_us);
                let _ = done.send(());
            }
            Message::Retire => self.retired = true,
        }
    }

    fn set_gauges(&mut self, now_us: u64) {
        self.engine.forget_idle_sequences(now_us);
        self.windows.count(&self.handle, now_us);
        let forecast: Forecast = self.engine.forecast(now_us);
        let view = View {
            forecast,
            oldest_wait_us: self.engine.oldest_wait_us(now_us),
            inflight: self.engine.running(),
            latched: self.engine.is_latched(),
        };
        self.windows.set_gauges(&self.handle, &view, now_us);
        gauges::set_class_curves(&self.handle, &mut self.engine);
    }
}

/// Counts requests that come back from a batch as waiting again.
fn count_in(handle: &ModelHandle, event: &mut QueueEvent) {
    match event {
        QueueEvent::Ended(end) => {
            let suspects = end.suspects.iter_mut().map(|(_, group)| group);
            let groups = suspects.chain(&mut end.unsent_suspects).chain([&mut end.again]);
            groups.flatten().for_each(|entry| handle.came_back(entry));
        }
        QueueEvent::Again(entries) | QueueEvent::Overdue { copies: entries, .. } => {
            entries.iter_mut().for_each(|entry| handle.came_back(entry));
        }
        _ => {}
    }
}

/// Sends a batch in a task of its own.
fn send(handle: &Arc<ModelHandle>, now_us: u64, batch: SentBatch<Box<Entry>, Slot>) {
    let SentBatch { number, slot, inflight, requests: entries, rows, release, overdue_after_us } = batch;
    handle.served(entries.iter().map(|entry| &**entry));
    for entry in &entries {
        handle.left(entry);
        if release != Release::Suspect {
            let waited_us = now_us.saturating_sub(entry.arrived_us);
            handle.metrics.queue_seconds.record(waited_us as f64 / 1e6);
        }
    }
    handle.metrics.count_batch(release);
    handle.metrics.batch_rows.record(f64::from(rows));
    let noted = request_trace::Batch {
        number,
        rows,
        requests: entries.len(),
        release: release.label(),
        cut_us: now_us,
    };
    request_trace::cut(entries.iter().filter_map(|entry| entry.trail.as_ref()), &noted);
    let overdue_after = overdue_after_us.map(std::time::Duration::from_micros);
    dispatch::spawn(Arc::clone(handle), number, slot, inflight, entries, overdue_after);
}

/// Answers a request that is not served.
fn fail(handle: &ModelHandle, now_us: u64, hold_ms: u64, entry: Entry, reason: Unserved) {
    handle.left(&entry);
    match reason {
        Unserved::TooLate => {
            let message = "the deadline can no longer be met: the model server is saturated";
            let retry_after = handle.retry_after(now_us);
            entry.give_up(Failure::refused(429, RejectReason::Expired, message, retry_after));
        }
        Unserved::NoServer { unsure } => {
            let message = match unsure {
                0 => format!("no model server became ready within {hold_ms} ms"),
                others => missing_elsewhere(others, hold_ms),
            };
            entry.give_up(Failure::refused(503, RejectReason::HoldExpired, message, RetryAfter::UNPREDICTED));
        }
        Unserved::Step(why) => {
            let Some(step) = &entry.sequence else { return };
            let failure = refusal(&step.key.id, why, handle.settings.now().sequences.max_sequences);
            entry.answer(Reply::Failed(failure));
        }
    }
}

/// Reads the settings of one model's queue as they are now; sets the gauge of the objective too.
fn engine_settings(handle: &ModelHandle) -> EngineSettings {
    let settings = handle.settings.now();
    let model = settings.batching.of_model(&handle.model);
    handle.metrics.set_objective(model.objective_ms);
    EngineSettings {
        objective_us: model.objective_ms.saturating_mul(1000),
        hold_us: settings.holding.hold_ms.saturating_mul(1000),
        sizes: model.sizes(),
        bytes: model.max_batch_bytes.unwrap_or(u64::MAX),
        tokens: model.max_batch_tokens.unwrap_or(u64::MAX),
        defers: settings.batching.deferral == Deferral::Auto,
        sequences: SequenceLimits {
            most: settings.sequences.max_sequences,
            idle_us: settings.sequences.sequence_idle_ms.saturating_mul(1000),
        },
        slots_per_server: settings.batching.slots_per_upstream as u32,
        slot_weight: model.slot_weight,
    }
}

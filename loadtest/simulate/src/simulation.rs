//! The simulation: what happens in which order.

use std::cell::Cell;
use std::rc::Rc;

use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sluice_batch_policy::{BatchEnd, Effect, NO_DEADLINE, QueueEvent, SentBatch};

use crate::heap::{EventHeap, Next};
use crate::model::{Model, ModelId, ModelSpec, Running};
use crate::outcome::{Answer, Outcome};
use crate::pool::{GrantQueue, ModelPool, SharedPool, Sharing};
use crate::request::SimulatedRequest;
use crate::server::{Server, ServerId, ServerSpec, ServerState, SimulatedSlot};
use crate::source::{Source, SourceId};

/// Models, model servers and sources in virtual time, which starts at 0 and is counted in microseconds.
#[derive(Debug)]
pub struct Simulation {
    now_us: u64,
    random: SmallRng,
    heap: EventHeap,
    models: Vec<Model>,
    servers: Vec<Server>,
    sources: Vec<Source>,
    outcomes: Vec<Outcome>,
    /// Exact time of the next arrival of each source: the heap has it in whole microseconds.
    arrivals_us: Vec<f64>,
    grants: GrantQueue,
    sharing: Sharing,
    count_from_us: u64,
    /// Time for which servers held their devices until now, microseconds, summed over all servers.
    server_us: u64,
}

impl Simulation {
    /// Creates an empty simulation. Runs with equal input and seed are equal.
    pub fn new(seed: u64) -> Self {
        Self {
            now_us: 0,
            random: SmallRng::seed_from_u64(seed),
            heap: EventHeap::default(),
            models: Vec::new(),
            servers: Vec::new(),
            sources: Vec::new(),
            outcomes: Vec::new(),
            arrivals_us: Vec::new(),
            grants: GrantQueue::default(),
            sharing: Sharing::default(),
            count_from_us: 0,
            server_us: 0,
        }
    }

    /// Sets how models share the slots of servers that are added from now on.
    pub fn set_sharing(&mut self, sharing: Sharing) {
        self.sharing = sharing;
    }

    /// Leaves requests that arrive before `from_us` out of what is counted.
    pub fn count_from(&mut self, from_us: u64) {
        self.count_from_us = from_us;
    }

    /// Adds a model, at servers that are added later.
    pub fn add_model(&mut self, spec: ModelSpec) -> ModelId {
        let id = ModelId(self.models.len());
        let times: Vec<_> = spec.warm_up_rows.iter().map(|&rows| (rows, spec.batch_seconds(rows))).collect();
        let mut model = Model::new(spec, self.now_us);
        if !times.is_empty() {
            model.engine.handle(self.now_us, QueueEvent::Warmed(times));
        }
        self.models.push(model);
        id
    }

    /// Adds a model server, which is ready after `startup_us`.
    pub fn add_server(&mut self, spec: ServerSpec, startup_us: u64) -> ServerId {
        let id = ServerId(self.servers.len());
        let state = Rc::new(ServerState { is_current: Cell::new(true), inflight: Cell::new(0) });
        let pool = SharedPool::new(self.sharing, self.grants.clone());
        self.servers.push(Server { spec, pool, state, is_ready: false });
        if startup_us == 0 {
            self.server_ready(id);
        } else {
            self.heap.push(self.now_us + startup_us, Next::ServerReady(id));
        }
        id
    }

    /// Removes a model server: it ends its batches and gets no further ones.
    pub fn remove_server(&mut self, id: ServerId) {
        self.servers[id.0].state.is_current.set(false);
        for model in 0..self.models.len() {
            self.models[model].engine.handle(self.now_us, QueueEvent::SlotsChanged);
            self.turn(ModelId(model));
        }
        self.hand_grants_over();
    }

    /// Adds a source, which begins to send now.
    pub fn add_source(&mut self, source: Source) -> SourceId {
        let id = SourceId(self.sources.len());
        self.sources.push(source);
        self.outcomes.push(Outcome::default());
        self.arrivals_us.push(self.now_us as f64);
        self.schedule_arrival(id);
        id
    }

    /// Lets time pass until `until_us`, which happens too.
    pub fn run_until(&mut self, until_us: u64) {
        while let Some((at_us, next)) = self.heap.pop_until(until_us) {
            self.pass(at_us);
            match next {
                Next::BatchEnds { model, batch } => self.batch_ends(model, batch),
                Next::ServerReady(id) => self.server_ready(id),
                Next::Arrival(id) => {
                    for _ in 0..self.sources[id.0].burst {
                        self.arrive(id);
                    }
                    self.schedule_arrival(id);
                }
                Next::Turn(model) => {
                    let model_state = &mut self.models[model.0];
                    if model_state.turn_us.is_some_and(|turn_us| turn_us <= at_us) {
                        model_state.turn_us = None;
                        self.turn(model);
                        self.hand_grants_over();
                    }
                }
            }
        }
        self.pass(until_us);
    }

    /// Has one request of a source arrive now.
    pub fn arrive(&mut self, id: SourceId) {
        let Source { model, flow, rows, .. } = self.sources[id.0];
        let now_us = self.now_us;
        let state = &mut self.models[model.0];
        let deadline_us = state.spec.deadline_us.map_or(NO_DEADLINE, |us| now_us.saturating_add(us));
        let counted = u64::from(now_us >= self.count_from_us);
        self.outcomes[id.0].sent += counted;
        let Some(predicted_finish_us) = state.admit(now_us, deadline_us, flow, rows) else { return };
        self.outcomes[id.0].admitted += counted;
        state.arrived.push_back(SimulatedRequest {
            source: id,
            flow,
            rows,
            arrived_us: now_us,
            deadline_us,
            predicted_finish_us,
        });
        let next = state.engine.next_turn();
        // As the batcher does it: an arrival that changes nothing wakes nobody.
        if state.engine.wants_arrivals() || deadline_us < next.at_due_before_us {
            self.turn(model);
            self.hand_grants_over();
        }
    }

    /// Returns the time now, microseconds.
    pub fn now_us(&self) -> u64 {
        self.now_us
    }

    /// Returns what became of a source's requests so far.
    pub fn outcome(&self, source: SourceId) -> &Outcome {
        &self.outcomes[source.0]
    }

    /// Takes the outcomes of all sources out.
    pub fn into_outcomes(self) -> Vec<Outcome> {
        self.outcomes
    }

    /// Returns how many requests of a model wait.
    pub fn waiting(&self, model: ModelId) -> usize {
        self.models[model.0].waiting
    }

    /// Returns how many model servers are ready.
    pub fn ready(&self) -> usize {
        self.servers.iter().filter(|server| server.is_ready && server.state.is_current.get()).count()
    }

    /// Returns the time for which servers held their devices, from the start of a server until its last batch has ended,
    /// microseconds, summed over all servers.
    pub fn server_us(&self) -> u64 {
        self.server_us
    }

    /// Moves the time on.
    fn pass(&mut self, to_us: u64) {
        let there = self.servers.iter().filter(|server| server.is_there()).count() as u64;
        self.server_us += there * (to_us - self.now_us);
        self.now_us = to_us;
    }

    fn schedule_arrival(&mut self, id: SourceId) {
        let next_us = self.sources[id.0].next_us(self.arrivals_us[id.0], &mut self.random);
        if let Some(next_us) = next_us.filter(|next_us| next_us.is_finite()) {
            self.arrivals_us[id.0] = next_us;
            // The cast saturates.
            self.heap.push(next_us as u64, Next::Arrival(id));
        }
    }

    fn server_ready(&mut self, id: ServerId) {
        let server = &mut self.servers[id.0];
        if !server.state.is_current.get() {
            return;
        }
        server.is_ready = true;
        let (state, shared) = (Rc::clone(&server.state), Rc::clone(&server.pool));
        for index in 0..self.models.len() {
            let model = &mut self.models[index];
            let (state, max_rows) = (Rc::clone(&state), model.spec.max_rows);
            let slot = SimulatedSlot { server: id, state, max_rows };
            let pool = ModelPool { pool: Rc::clone(&shared), model: ModelId(index) };
            model.engine.handle(self.now_us, QueueEvent::Slot { slot, pool });
            self.turn(ModelId(index));
        }
        self.hand_grants_over();
    }

    fn batch_ends(&mut self, id: ModelId, number: u64) {
        let model = &mut self.models[id.0];
        let Some(batch) = model.running.remove(&number) else { return };
        let seconds = (self.now_us - batch.started_us) as f64 / 1e6;
        let objective_us = model.spec.settings.objective_us;
        for request in batch.requests.iter().filter(|request| request.arrived_us >= self.count_from_us) {
            let latency_us = self.now_us - request.arrived_us;
            let predicted_us = request.predicted_finish_us.unwrap_or(self.now_us);
            let early_us = predicted_us as i64 - self.now_us as i64;
            let outcome = &mut self.outcomes[request.source.0];
            outcome.answers.push(Answer { arrived_us: request.arrived_us, latency_us, early_us });
            outcome.met += u64::from(latency_us <= objective_us);
        }
        drop(batch.inflight);
        let end = BatchEnd {
            number,
            server: batch.slot.server.0 as u64,
            slot: Some(batch.slot),
            times: if model.spec.learns { vec![(batch.sent_rows, seconds)] } else { Vec::new() },
            again: Vec::new(),
            suspects: Vec::new(),
            unsent_suspects: Vec::new(),
            offenders: Vec::new(),
        };
        model.engine.handle(self.now_us, QueueEvent::Ended(end));
        self.turn(id);
        self.hand_grants_over();
    }

    /// Gives the engine of a model its turn, and does what it decides.
    fn turn(&mut self, id: ModelId) {
        let now_us = self.now_us;
        let model = &mut self.models[id.0];
        let arrived = &mut model.arrived;
        model.engine.turn(now_us, &mut std::iter::from_fn(|| arrived.pop_front()));
        let effects: Vec<_> = model.engine.effects().collect();
        for effect in effects {
            match effect {
                Effect::Send(batch) => self.send(id, batch),
                Effect::Fail { request, .. } => {
                    self.models[id.0].left(&request);
                    self.outcomes[request.source.0].failed +=
                        u64::from(request.arrived_us >= self.count_from_us);
                }
                Effect::Gone(request) => self.models[id.0].left(&request),
                Effect::Publish { forecast, .. } => self.models[id.0].forecast = forecast,
                Effect::SetApart(_) => {}
            }
        }
        let model = &mut self.models[id.0];
        let at_us = model.engine.next_turn().at_us.map(|at_us| at_us.max(now_us + 1));
        if at_us != model.turn_us {
            model.turn_us = at_us;
            if let Some(at_us) = at_us {
                self.heap.push(at_us, Next::Turn(id));
            }
        }
    }

    fn send(&mut self, id: ModelId, batch: SentBatch<SimulatedRequest, SimulatedSlot>) {
        let SentBatch { number, slot, inflight, requests, rows, .. } = batch;
        let model = &mut self.models[id.0];
        model.served(&requests);
        if self.now_us >= self.count_from_us {
            let mut sources: Vec<_> = requests.iter().map(|request| request.source).collect();
            sources.sort_unstable();
            sources.dedup();
            sources.iter().for_each(|source| self.outcomes[source.0].batches += 1);
        }
        let sent_rows = model.spec.settings.sizes.sent_rows(rows);
        let running = Running { slot, inflight, started_us: self.now_us, sent_rows, requests };
        let ServerSpec { speed, noise } = self.servers[running.server().0].spec;
        // The sum of four uniform numbers is nearly normal, and bounded.
        let noise: f64 = match noise * 3f64.sqrt() / 2.0 {
            width if width > 0.0 => (0..4).map(|_| self.random.random_range(-width..width)).sum(),
            _ => 0.0,
        };
        let seconds = model.spec.batch_seconds(sent_rows) / speed * (1.0 + noise);
        // The cast saturates.
        let ends_us = self.now_us.saturating_add((seconds * 1e6) as u64);
        model.running.insert(number, running);
        self.heap.push(ends_us, Next::BatchEnds { model: id, batch: number });
    }

    /// Hands grants to models that have waited for them, until there are no more.
    fn hand_grants_over(&mut self) {
        while let Some((id, grant)) = self.grants.pop() {
            self.models[id.0].engine.handle(self.now_us, QueueEvent::Granted(grant));
            self.turn(id);
        }
    }
}

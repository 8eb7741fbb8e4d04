//! Sequences: requests that follow one another, and whose state one model server has. Each step of a sequence is sent
//! to the server of its start, one step at a time and in the order of arrival. Where that is impossible, the step is
//! refused: no step is ever sent to a server that has not executed the steps before it.
//!
//! A step *has its turn* from the moment at which it may be sent until it is over; steps that arrive meanwhile wait
//! behind it. The number of known sequences is bounded: at the bound, the tenant with the most sequences loses the one
//! that it has not used for longest, whose next step is then refused. That costs a client a new start, never a wrong
//! answer, and a tenant that floods loses only its own sequences.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::hash::Hash;

/// Table of the sequences of one model: `K` names a sequence, `S` a server, `T` is a step that waits.
#[derive(Debug)]
pub struct Sequences<K, S, T> {
    limits: SequenceLimits,
    known: HashMap<K, Sequence<S>>,
    /// Steps behind the one that has its turn, by sequence; never an empty list, and only of known sequences.
    behind: HashMap<K, VecDeque<(Asked, T)>>,
    /// Sequences without a step here, in the order in which they began to rest.
    resting: BTreeMap<u64, K>,
    /// The same sequences by tenant: tenant and key in `resting`.
    resting_of: BTreeSet<(u32, u64)>,
    /// Number of sequences of each tenant.
    counts: BTreeMap<u32, usize>,
    next_rest: u64,
}

/// Limits of the table of sequences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SequenceLimits {
    /// Most sequences that are remembered.
    pub most: usize,
    /// Time without a step after which a sequence is forgotten, microseconds.
    pub idle_us: u64,
}

/// Properties of a step that arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Whether the step begins the sequence anew, whatever came before.
    pub starts: bool,
    /// Whether the step is the last one.
    pub ends: bool,
    /// Tenant of the step.
    pub tenant: u32,
    /// Whether only one server can have the sequence: then a step without a known start is sent to it.
    pub sole: bool,
}

/// Decision on a step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn<S, T> {
    /// The step has its turn.
    Goes {
        /// Server of the step; `None`: any server.
        at: Option<S>,
        /// The step.
        step: T,
    },
    /// The step is to be answered with an error.
    Refused {
        /// Reason of the refusal.
        why: SequenceRefusal,
        /// The step.
        step: T,
    },
}

/// Reason why a step cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SequenceRefusal {
    /// The server with the sequence's state is gone.
    Lost,
    /// An earlier step was broken off, and it is not known whether it was executed.
    Uncertain,
    /// The step does not start the sequence, and it is not known which server has the sequence.
    Unknown,
    /// An earlier step was not executed.
    Skipped,
    /// The table is full, and each sequence in it has a step here.
    Full,
}

/// End of a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepEnd {
    /// The step was not sent.
    Unsent,
    /// The server has answered the step.
    Answered {
        /// Whether the answer is a success.
        well: bool,
    },
    /// The step was sent, and there is no answer.
    Uncertain,
}

#[derive(Debug)]
struct Sequence<S> {
    state: State<S>,
    /// Step that has its turn; `None` where no step is here.
    turn: Option<Asked>,
    tenant: u32,
    /// Instant at which a step last got its turn or was over, microseconds.
    used_us: u64,
    /// Key of the sequence in `resting`; `None` where it has a step here.
    rest: Option<u64>,
}

#[derive(Debug, Clone, Copy)]
enum State<S> {
    /// No step has been sent.
    New,
    /// The step that has its turn is the first one sent, to this server.
    Begun(S),
    /// The sequence is at this server.
    At(S),
    /// It is not known which steps the server has executed.
    Uncertain,
}

impl<K: Eq + Hash + Clone, S: Copy, T> Sequences<K, S, T> {
    /// Creates an empty table.
    pub fn new(limits: SequenceLimits) -> Self {
        Self {
            limits,
            known: HashMap::new(),
            behind: HashMap::new(),
            resting: BTreeMap::new(),
            resting_of: BTreeSet::new(),
            counts: BTreeMap::new(),
            next_rest: 0,
        }
    }

    /// Sets other limits; they hold from the next step on.
    pub fn set_limits(&mut self, limits: SequenceLimits) {
        self.limits = limits;
    }

    /// Takes in a step and decides on it; `None` where it waits behind another one. `is_there` returns whether a server
    /// still has its state.
    pub fn arrive(
        &mut self,
        now_us: u64,
        key: K,
        asked: Asked,
        step: T,
        is_there: impl Fn(&S) -> bool,
    ) -> Option<Turn<S, T>> {
        self.forget_idle(now_us);
        if self.known.get(&key).is_some_and(|sequence| sequence.turn.is_some()) {
            self.behind.entry(key).or_default().push_back((asked, step));
            return None;
        }
        Some(self.judge(now_us, key, asked, step, &is_there))
    }

    /// Notes that the step that has its turn is sent to this server.
    pub fn sent(&mut self, key: &K, at: S) {
        if let Some(sequence) = self.known.get_mut(key)
            && matches!(sequence.state, State::New)
        {
            sequence.state = State::Begun(at);
        }
    }

    /// Returns where to send the step that has its turn again, after it was not sent; `Ok(None)`: to any server.
    ///
    /// # Errors
    /// When the sequence's server is gone, unknown or in an uncertain state. The turn goes on until
    /// [`Sequences::over`].
    pub fn again(&mut self, key: &K, is_there: impl Fn(&S) -> bool) -> Result<Option<S>, SequenceRefusal> {
        let Some(sequence) = self.known.get_mut(key) else { return Err(SequenceRefusal::Unknown) };
        match sequence.state {
            State::New => Ok(None),
            State::Begun(_) => {
                sequence.state = State::New;
                Ok(None)
            }
            State::At(at) if is_there(&at) => Ok(Some(at)),
            State::At(_) => Err(SequenceRefusal::Lost),
            State::Uncertain => Err(SequenceRefusal::Uncertain),
        }
    }

    /// Ends a turn and returns the decisions on the steps behind it.
    pub fn over(
        &mut self,
        now_us: u64,
        key: &K,
        end: StepEnd,
        is_there: impl Fn(&S) -> bool,
    ) -> Vec<Turn<S, T>> {
        let Some(sequence) = self.known.get_mut(key) else { return Vec::new() };
        let Some(asked) = sequence.turn.take() else { return Vec::new() };
        let mut has_ended = false;
        match (end, sequence.state) {
            // The start was not sent: there is no sequence at any server.
            (StepEnd::Unsent, State::New | State::Begun(_)) => has_ended = true,
            (StepEnd::Unsent, _) => {}
            (StepEnd::Uncertain, _) => sequence.state = State::Uncertain,
            (StepEnd::Answered { well }, state) => {
                if let State::Begun(at) = state {
                    sequence.state = State::At(at);
                }
                has_ended = well && asked.ends;
            }
        }
        sequence.used_us = sequence.used_us.max(now_us);
        if has_ended {
            self.forget(key);
        } else {
            self.rest(key);
        }
        let mut behind = self.behind.remove(key).unwrap_or_default();
        let mut turns = Vec::new();
        // Steps that follow one that was not executed must not be executed either.
        while end == StepEnd::Unsent
            && let Some((_, step)) = behind.pop_front_if(|(asked, _)| !asked.starts)
        {
            turns.push(Turn::Refused { why: SequenceRefusal::Skipped, step });
        }
        while let Some((asked, step)) = behind.pop_front() {
            let turn = self.judge(now_us, key.clone(), asked, step, &is_there);
            let goes = matches!(turn, Turn::Goes { .. });
            turns.push(turn);
            if goes {
                break;
            }
        }
        if !behind.is_empty() {
            self.behind.insert(key.clone(), behind);
        }
        turns
    }

    /// Takes out the steps that wait behind others and for which `is_out` holds (first list), and the steps behind
    /// those that follow them in the same sequence (second list).
    pub fn take_out(&mut self, is_out: impl Fn(&T) -> bool) -> (Vec<T>, Vec<T>) {
        let (mut out, mut skipped) = (Vec::new(), Vec::new());
        self.behind.retain(|_, steps| {
            let mut skips = false;
            for (asked, step) in std::mem::take(steps) {
                skips &= !asked.starts;
                if is_out(&step) {
                    skips = true;
                    out.push(step);
                } else if skips {
                    skipped.push(step);
                } else {
                    steps.push_back((asked, step));
                }
            }
            !steps.is_empty()
        });
        (out, skipped)
    }

    /// Returns the steps that wait behind others.
    pub fn waiting(&self) -> impl Iterator<Item = &T> {
        self.behind.values().flatten().map(|(_, step)| step)
    }

    /// Returns the number of known sequences.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Returns whether no sequence is known.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Forgets the sequences that have had no step for `idle_us`.
    pub fn forget_idle(&mut self, now_us: u64) {
        while let Some((_, key)) = self.resting.first_key_value()
            && self
                .known
                .get(key)
                .is_none_or(|sequence| sequence.used_us.saturating_add(self.limits.idle_us) <= now_us)
        {
            let key = key.clone();
            self.forget(&key);
        }
    }

    /// Decides on a step while no other step of its sequence has its turn.
    fn judge(
        &mut self,
        now_us: u64,
        key: K,
        asked: Asked,
        step: T,
        is_there: &impl Fn(&S) -> bool,
    ) -> Turn<S, T> {
        let state = self.known.get(&key).map(|sequence| sequence.state);
        let verdict = match state {
            _ if asked.starts => Ok(State::New),
            Some(State::At(at) | State::Begun(at)) if is_there(&at) => Ok(State::At(at)),
            Some(State::At(_) | State::Begun(_)) => Err(SequenceRefusal::Lost),
            Some(State::Uncertain) => Err(SequenceRefusal::Uncertain),
            None | Some(State::New) if asked.sole => Ok(State::New),
            None | Some(State::New) => Err(SequenceRefusal::Unknown),
        };
        let state = match verdict {
            Ok(state) if self.known.contains_key(&key) || self.make_room() => state,
            Ok(_) => return Turn::Refused { why: SequenceRefusal::Full, step },
            Err(why) => return Turn::Refused { why, step },
        };
        // The sequence counts for the tenant that started it.
        let tenant = match self.known.get(&key) {
            Some(known) if !asked.starts => known.tenant,
            _ => asked.tenant,
        };
        self.forget(&key);
        *self.counts.entry(tenant).or_default() += 1;
        let sequence = Sequence { state, turn: Some(asked), tenant, used_us: now_us, rest: None };
        self.known.insert(key, sequence);
        let at = match state {
            State::At(at) => Some(at),
            _ => None,
        };
        Turn::Goes { at, step }
    }

    /// Makes room for one more sequence; returns `false` where each known sequence has a step here.
    fn make_room(&mut self) -> bool {
        while self.known.len() >= self.limits.most {
            let rests = |tenant: u32| self.resting_of.range((tenant, 0)..=(tenant, u64::MAX)).next();
            let most = self.counts.iter().filter_map(|(tenant, count)| Some((count, rests(*tenant)?)));
            let Some((_, &(_, rest))) = most.max_by_key(|(count, _)| **count) else { return false };
            let Some(key) = self.resting.get(&rest).cloned() else { return false };
            self.forget(&key);
        }
        true
    }

    fn rest(&mut self, key: &K) {
        let Some(sequence) = self.known.get_mut(key) else { return };
        let rest = self.next_rest;
        self.next_rest += 1;
        sequence.rest = Some(rest);
        self.resting.insert(rest, key.clone());
        self.resting_of.insert((sequence.tenant, rest));
    }

    fn forget(&mut self, key: &K) {
        let Some(sequence) = self.known.remove(key) else { return };
        if let Some(rest) = sequence.rest {
            self.resting.remove(&rest);
            self.resting_of.remove(&(sequence.tenant, rest));
        }
        if let Some(count) = self.counts.get_mut(&sequence.tenant) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&sequence.tenant);
            }
        }
    }
}

//! Servers to which the steps of sequences are sent, and steps that are refused.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use sluice_batch_policy::{Asked, SequenceLimits, SequenceRefusal, Sequences, StepEnd, Turn};

const SECOND_US: u64 = 1_000_000;
const LIMITS: SequenceLimits = SequenceLimits { most: 3, idle_us: 60 * SECOND_US };
const START: Asked = Asked { starts: true, ends: false, tenant: 0, sole: false };
const GOES_ON: Asked = Asked { starts: false, ..START };
const END: Asked = Asked { ends: true, ..GOES_ON };
const WELL: StepEnd = StepEnd::Answered { well: true };

type Table = Sequences<u32, char, u32>;

fn arrive(table: &mut Table, key: u32, asked: Asked) -> Option<Turn<char, u32>> {
    table.arrive(0, key, asked, 0, |_| true)
}

fn goes(at: Option<char>) -> Option<Turn<char, u32>> {
    Some(Turn::Goes { at, step: 0 })
}

fn refused(why: SequenceRefusal) -> Option<Turn<char, u32>> {
    Some(Turn::Refused { why, step: 0 })
}

/// Begins a sequence at a server.
fn begun(table: &mut Table, key: u32, at: char, tenant: u32) {
    assert_eq!(arrive(table, key, Asked { tenant, ..START }), goes(None));
    table.sent(&key, at);
    assert!(table.over(0, &key, WELL, |_| true).is_empty());
}

#[test]
fn each_step_goes_where_the_start_went_until_the_end() {
    let mut table = Table::new(LIMITS);
    begun(&mut table, 1, 'a', 0);
    begun(&mut table, 2, 'b', 0);
    for (key, at) in [(1, 'a'), (2, 'b'), (1, 'a')] {
        assert_eq!(arrive(&mut table, key, GOES_ON), goes(Some(at)));
        table.over(0, &key, WELL, |_| true);
    }
    assert_eq!(arrive(&mut table, 1, END), goes(Some('a')));
    table.over(0, &1, StepEnd::Answered { well: false }, |_| true);
    assert_eq!(arrive(&mut table, 1, END), goes(Some('a')), "the server has not ended it");
    table.over(0, &1, WELL, |_| true);
    assert_eq!(arrive(&mut table, 1, GOES_ON), refused(SequenceRefusal::Unknown));
    assert_eq!(table.len(), 1);
}

#[test]
fn a_lost_server_and_a_step_that_broke_off_end_a_sequence_until_it_is_begun_anew() {
    let mut table = Table::new(LIMITS);
    begun(&mut table, 1, 'a', 0);
    for _ in 0..2 {
        assert_eq!(table.arrive(0, 1, GOES_ON, 0, |_| false), refused(SequenceRefusal::Lost));
    }
    begun(&mut table, 1, 'b', 0);
    assert_eq!(arrive(&mut table, 1, GOES_ON), goes(Some('b')));
    table.over(0, &1, StepEnd::Uncertain, |_| true);
    assert_eq!(arrive(&mut table, 1, GOES_ON), refused(SequenceRefusal::Uncertain));
    begun(&mut table, 1, 'a', 0);
}

#[test]
fn a_start_that_was_not_sent_goes_anywhere_and_another_step_only_where_it_belongs() {
    let mut table = Table::new(LIMITS);
    assert_eq!(arrive(&mut table, 1, START), goes(None));
    table.sent(&1, 'a');
    assert_eq!(table.again(&1, |_| false), Ok(None));
    table.sent(&1, 'b');
    table.over(0, &1, WELL, |_| true);
    assert_eq!(arrive(&mut table, 1, GOES_ON), goes(Some('b')));
    table.sent(&1, 'b');
    assert_eq!(table.again(&1, |_| true), Ok(Some('b')));
    assert_eq!(table.again(&1, |_| false), Err(SequenceRefusal::Lost));
}

#[test]
fn steps_behind_one_that_was_not_executed_are_not_executed_either() {
    let mut table = Table::new(LIMITS);
    begun(&mut table, 1, 'a', 0);
    for (step, asked) in [(1, GOES_ON), (2, GOES_ON), (3, GOES_ON), (4, START), (5, END)] {
        let turn = table.arrive(0, 1, asked, step, |_| true);
        assert_eq!(turn.is_some(), step == 1);
    }
    let skipped = |step| Turn::Refused { why: SequenceRefusal::Skipped, step };
    let turns = table.over(0, &1, StepEnd::Unsent, |_| true);
    assert_eq!(turns, [skipped(2), skipped(3), Turn::Goes { at: None, step: 4 }]);
    assert_eq!(table.take_out(|step| *step == 5), (vec![5], vec![]));
    assert_eq!(table.waiting().count(), 0);
}

#[test]
fn with_one_server_a_step_without_a_known_start_goes_there() {
    let mut table = Table::new(LIMITS);
    assert_eq!(arrive(&mut table, 1, GOES_ON), refused(SequenceRefusal::Unknown));
    let sole = Asked { sole: true, ..GOES_ON };
    assert_eq!(arrive(&mut table, 1, sole), goes(None));
    table.sent(&1, 'a');
    table.over(0, &1, WELL, |_| true);
    assert_eq!(table.arrive(0, 1, sole, 0, |_| false), refused(SequenceRefusal::Lost));
}

#[test]
fn the_tenant_with_the_most_sequences_loses_the_one_it_has_not_used_for_longest() {
    let mut table = Table::new(LIMITS);
    begun(&mut table, 1, 'a', 7);
    (10..20).for_each(|key| begun(&mut table, key, 'b', 8));
    assert_eq!(table.len(), 3);
    assert_eq!(arrive(&mut table, 1, GOES_ON), goes(Some('a')));
    assert_eq!(arrive(&mut table, 17, GOES_ON), refused(SequenceRefusal::Unknown));
    assert_eq!(arrive(&mut table, 18, GOES_ON), goes(Some('b')));
    assert_eq!(arrive(&mut table, 19, GOES_ON), goes(Some('b')));
    assert_eq!(arrive(&mut table, 20, START), refused(SequenceRefusal::Full), "all have a step here");
}

#[test]
fn an_idle_sequence_is_forgotten() {
    let mut table = Table::new(LIMITS);
    begun(&mut table, 1, 'a', 0);
    assert_eq!(table.arrive(59 * SECOND_US, 1, GOES_ON, 0, |_| true), goes(Some('a')));
    table.forget_idle(500 * SECOND_US);
    assert_eq!(table.len(), 1, "one with a step here is not idle");
    table.over(500 * SECOND_US, &1, WELL, |_| true);
    table.forget_idle(559 * SECOND_US);
    assert_eq!(table.len(), 1);
    table.forget_idle(560 * SECOND_US);
    assert!(table.is_empty());
}

#[derive(Debug, Clone)]
enum Event {
    Arrive {
        key: u32,
        starts: bool,
        ends: bool,
        tenant: u32,
        sole: bool,
    },
    /// Sends one of the steps that have their turn.
    Send {
        which: usize,
        server: char,
    },
    Again {
        which: usize,
    },
    Over {
        which: usize,
        end: StepEnd,
    },
    Lose {
        server: char,
    },
    TakeOut {
        step: u32,
    },
    Pass {
        us: u64,
    },
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let server = || prop::sample::select(vec!['a', 'b', 'c']);
    let end = prop_oneof![
        1 => Just(StepEnd::Unsent),
        6 => prop::bool::weighted(0.9).prop_map(|well| StepEnd::Answered { well }),
        1 => Just(StepEnd::Uncertain),
    ];
    let arrive =
        (0..5u32, prop::bool::weighted(0.3), prop::bool::weighted(0.1), 0..3u32, prop::bool::weighted(0.1))
            .prop_map(|(key, starts, ends, tenant, sole)| Event::Arrive { key, starts, ends, tenant, sole });
    let event = prop_oneof![
        6 => arrive,
        5 => (0..8usize, server()).prop_map(|(which, server)| Event::Send { which, server }),
        1 => (0..8usize).prop_map(|which| Event::Again { which }),
        5 => (0..8usize, end).prop_map(|(which, end)| Event::Over { which, end }),
        1 => server().prop_map(|server| Event::Lose { server }),
        1 => (0..100u32).prop_map(|step| Event::TakeOut { step }),
        1 => (0..90 * SECOND_US).prop_map(|us| Event::Pass { us }),
    ];
    prop::collection::vec(event, 0..150)
}

/// Step that was sent and is not over.
#[derive(Debug, Clone)]
struct OnItsWay {
    key: u32,
    step: u32,
    asked: Asked,
    at: Option<(char, u32)>,
    sent: bool,
}

/// State of a client and the servers, from which the test knows where each step belongs.
#[derive(Default)]
struct World {
    /// Number of times that each server was lost and replaced by another one.
    epochs: BTreeMap<char, u32>,
    /// Steps that have not had their turn yet, in order.
    waiting: BTreeMap<u32, VecDeque<(u32, Asked)>>,
    turns: Vec<OnItsWay>,
    /// Server that has executed all steps of each sequence since its start, in order.
    homes: BTreeMap<u32, (char, u32)>,
    out: Vec<u32>,
}

impl World {
    fn is_there(&self) -> impl Fn(&(char, u32)) -> bool + use<> {
        let epochs = self.epochs.clone();
        move |(server, epoch)| epochs.get(server).copied().unwrap_or(0) == *epoch
    }

    fn take(&mut self, key: u32, turn: Turn<(char, u32), u32>) -> Result<(), TestCaseError> {
        let step = match &turn {
            Turn::Goes { step, .. } | Turn::Refused { step, .. } => *step,
        };
        let next = self.waiting.get_mut(&key).and_then(VecDeque::pop_front);
        let Some((first, asked)) = next else {
            return Err(TestCaseError::fail("a step that has not come"));
        };
        prop_assert_eq!(first, step, "in the order in which they came");
        match turn {
            Turn::Goes { at, .. } => {
                prop_assert!(self.turns.iter().all(|other| other.key != key), "one at a time");
                if asked.starts {
                    prop_assert_eq!(at, None);
                } else if let Some(at) = at {
                    prop_assert!(self.is_there()(&at), "a server that is there");
                    prop_assert_eq!(self.homes.get(&key), Some(&at), "the one that has its state");
                } else {
                    prop_assert!(asked.sole);
                }
                self.turns.push(OnItsWay { key, step, asked, at, sent: false });
            }
            Turn::Refused { .. } => self.out.push(step),
        }
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_step_ever_goes_where_its_sequence_is_not(events in events()) {
        let mut table = Sequences::<u32, (char, u32), u32>::new(LIMITS);
        let (mut world, mut now_us, mut arrived) = (World::default(), 0, 0);
        for event in events {
            match event {
                Event::Arrive { key, starts, ends, tenant, sole } => {
                    let asked = Asked { starts, ends, tenant, sole };
                    world.waiting.entry(key).or_default().push_back((arrived, asked));
                    let turn = table.arrive(now_us, key, asked, arrived, world.is_there());
                    arrived += 1;
                    match turn {
                        Some(turn) => world.take(key, turn)?,
                        None => prop_assert!(world.turns.iter().any(|other| other.key == key)),
                    }
                }
                Event::Send { which, server } => {
                    let epoch = world.epochs.get(&server).copied().unwrap_or(0);
                    if let Some(turn) = world.turns.get_mut(which).filter(|turn| !turn.sent) {
                        turn.sent = true;
                        let at = *turn.at.get_or_insert((server, epoch));
                        table.sent(&turn.key, at);
                    }
                }
                Event::Again { which } => {
                    let is_there = world.is_there();
                    if let Some(turn) = world.turns.get_mut(which).filter(|turn| turn.sent)
                        && let Ok(at) = table.again(&turn.key, is_there)
                    {
                        (turn.sent, turn.at) = (false, at);
                    }
                }
                Event::Over { which, end } if which < world.turns.len() => {
                    let is_sent = world.turns[which].sent;
                    // A step that was not sent has no answer.
                    let end = if is_sent { end } else { StepEnd::Unsent };
                    let turn = world.turns.remove(which);
                    match (end, turn.at) {
                        (StepEnd::Answered { well }, Some(at)) if !(well && turn.asked.ends) => {
                            world.homes.insert(turn.key, at);
                        }
                        (StepEnd::Unsent, _) if !turn.asked.starts => {}
                        _ => drop(world.homes.remove(&turn.key)),
                    }
                    world.out.push(turn.step);
                    for next in table.over(now_us, &turn.key, end, world.is_there()) {
                        world.take(turn.key, next)?;
                    }
                }
                Event::Over { .. } => {}
                Event::Lose { server } => *world.epochs.entry(server).or_default() += 1,
                Event::TakeOut { step } => {
                    let (out, skipped) = table.take_out(|other| *other == step);
                    for step in out.into_iter().chain(skipped) {
                        world.waiting.values_mut().for_each(|steps| steps.retain(|(other, _)| *other != step));
                        world.out.push(step);
                    }
                }
                Event::Pass { us } => now_us += us,
            }
            prop_assert!(table.len() <= LIMITS.most);
            let waiting: usize = world.waiting.values().map(VecDeque::len).sum();
            prop_assert_eq!(table.waiting().count(), waiting);
            prop_assert_eq!(world.out.len() + waiting + world.turns.len(), arrived as usize, "each once");
        }
    }
}

//! Requests that break, stall or overtax the calls that they are in: only those requests fail, at a bounded cost.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use sluice_batch_policy::{Breaks, ErrorSearch, Fault, Offenders, ServiceCurve, Suspects, overdue_after_us};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    Failed,
}

/// Request with the breaks that were counted for it.
#[derive(Debug, Clone, Copy)]
struct Request {
    number: usize,
    kills: bool,
    breaks: Breaks,
}

fn requests(kills: &[bool]) -> Vec<Request> {
    let request =
        |(number, kills): (usize, &bool)| Request { number, kills: *kills, breaks: Breaks::default() };
    kills.iter().enumerate().map(request).collect()
}

/// Model server whose connections break, and the outcome of each request.
struct Server {
    retries: u32,
    suspects: Suspects<Request>,
    fates: BTreeMap<usize, Fate>,
    calls_of: BTreeMap<usize, u32>,
    calls: u32,
}

impl Server {
    fn new(retries: u32) -> Self {
        let (suspects, fates, calls_of) = Default::default();
        Self { retries, suspects, fates, calls_of, calls: 0 }
    }

    fn called(&mut self, group: &[Request]) {
        self.calls += 1;
        group.iter().for_each(|request| *self.calls_of.entry(request.number).or_default() += 1);
    }

    fn succeeded(&mut self, group: Vec<Request>) {
        for request in group {
            assert_eq!(self.fates.insert(request.number, Fate::Answered), None, "one answer each");
        }
    }

    fn broke(&mut self, mut group: Vec<Request>, beside_others: bool) {
        if let [alone] = &mut group[..] {
            alone.breaks.count(beside_others);
            if alone.breaks.are_too_many(self.retries) {
                assert_eq!(self.fates.insert(alone.number, Fate::Failed), None, "one answer each");
                return;
            }
        }
        let by_itself = matches!(&group[..], [alone] if alone.breaks.are_grave());
        self.suspects.accuse(group, Fault::Broke, by_itself);
    }

    fn assert_only_killers_failed(&self, kills: &[bool]) {
        for (number, kills) in kills.iter().enumerate() {
            let fate = if *kills { Fate::Failed } else { Fate::Answered };
            assert_eq!(self.fates.get(&number), Some(&fate), "request {number}");
        }
    }
}

fn log2_up(n: usize) -> u32 {
    n.next_power_of_two().ilog2()
}

proptest! {
    /// A call breaks where a killer is in it; the server stays up.
    #[test]
    fn every_innocent_is_answered_every_killer_fails_and_calls_are_few(
        kills in prop::collection::vec(prop::bool::weighted(0.15), 1..70),
        retries in 0..4u32,
    ) {
        let mut server = Server::new(retries);
        server.called(&requests(&kills));
        let killers = kills.iter().filter(|kills| **kills).count() as u32;
        match killers {
            0 => server.succeeded(requests(&kills)),
            _ => server.broke(requests(&kills), false),
        }
        while let Some(group) = server.suspects.send(1, |_| true) {
            server.called(&group);
            let breaks = group.iter().any(|request| request.kills);
            server.suspects.ended(1, !breaks);
            match breaks {
                true => server.broke(group, false),
                false => server.succeeded(group),
            }
        }
        server.assert_only_killers_failed(&kills);
        let levels = log2_up(kills.len());
        prop_assert!(server.calls <= 1 + killers * (2 * levels + retries), "{} calls", server.calls);
        for (number, calls) in &server.calls_of {
            let own = if kills[*number] { retries } else { 0 };
            prop_assert!(*calls <= 1 + levels + own, "request {number} was in {calls} calls");
        }
    }

    /// A call with a staller in it gets no answer: few calls take all the time that a call may take.
    #[test]
    fn few_calls_are_waited_for_in_vain(n in 2..70usize, staller in any::<prop::sample::Index>()) {
        let staller = staller.index(n);
        let mut suspects = Suspects::default();
        let mut answered = vec![false; n];
        suspects.accuse((0..n).collect(), Fault::TimedOut, false);
        let (mut calls, mut in_vain) = (0, 1);
        while let Some(group) = suspects.send(1, |_| true) {
            calls += 1;
            let stalls = group.contains(&staller);
            suspects.ended(1, !stalls);
            match stalls {
                false => group.into_iter().for_each(|request| answered[request] = true),
                true => {
                    in_vain += 1;
                    if group.len() > 1 {
                        suspects.accuse(group, Fault::TimedOut, false);
                    }
                }
            }
        }
        prop_assert_eq!(answered.iter().filter(|answered| !**answered).count(), 1);
        let levels = if n <= 8 { 1 } else if n <= 64 { 2 } else { 3 };
        prop_assert!(in_vain <= 1 + levels && calls <= 8 * levels, "{in_vain} of {calls} calls");
    }

    /// A killer ends the server, and with it all calls that are in flight there.
    #[test]
    fn no_innocent_fails_with_a_server_that_another_call_kills(
        mut kills in prop::collection::vec(Just(false), 2..60),
        killers in prop::collection::vec(any::<prop::sample::Index>(), 0..=2),
        sizes in prop::collection::vec(1..9usize, 60),
        slots in 1..5usize,
        retries in 0..4u32,
    ) {
        for killer in &killers {
            let at = killer.index(kills.len());
            kills[at] = true;
        }
        let mut waiting: VecDeque<Request> = requests(&kills).into();
        let mut sizes = sizes.into_iter().cycle();
        let mut server = Server::new(retries);
        loop {
            let mut in_flight = Vec::new();
            while in_flight.len() < slots
                && let Some(group) = server.suspects.send(in_flight.len() as u64, |_| true)
            {
                in_flight.push(group);
            }
            while in_flight.len() < slots && !waiting.is_empty() {
                let size = sizes.next().unwrap().min(waiting.len());
                in_flight.push(waiting.drain(..size).collect());
            }
            if in_flight.is_empty() {
                break;
            }
            in_flight.iter().for_each(|group| server.called(group));
            let dies = in_flight.iter().flatten().any(|request| request.kills);
            let beside_others = in_flight.len() > 1;
            for (call, group) in in_flight.into_iter().enumerate() {
                server.suspects.ended(call as u64, !dies);
                match dies {
                    true => server.broke(group, beside_others),
                    false => server.succeeded(group),
                }
            }
        }
        server.assert_only_killers_failed(&kills);
    }

    /// A server error is about some requests of the batch: only those are answered with it.
    #[test]
    fn a_server_error_is_answered_to_those_that_it_is_about(
        fails in prop::collection::vec(prop::bool::weighted(0.1), 2..70),
    ) {
        // With more failing requests the search may end before its first success, as for a server that always fails.
        prop_assume!(fails.iter().filter(|fails| **fails).count() <= 2);
        let mut search = ErrorSearch::default();
        let mut groups = VecDeque::from([(0..fails.len()).collect::<Vec<_>>()]);
        let mut answered = vec![None; fails.len()];
        let mut calls = 0;
        while let Some(mut group) = groups.pop_front() {
            calls += 1;
            let failed = group.iter().any(|&request| fails[request]);
            if failed && group.len() > 1 && search.goes_on() {
                let second = group.split_off(group.len() / 2);
                groups.extend([group, second]);
                continue;
            }
            if !failed {
                search.succeeded();
            }
            group.into_iter().for_each(|request| answered[request] = Some(failed));
        }
        for (request, fails) in fails.iter().enumerate() {
            prop_assert_eq!(answered[request], Some(*fails));
        }
        let failing = fails.iter().filter(|fails| **fails).count() as u32;
        prop_assert!(calls <= 1 + 2 * failing * log2_up(fails.len()));
    }

    /// At most the given number of offenders is remembered, each until its term is over.
    #[test]
    fn offenders_are_few_and_not_for_ever(
        offences in prop::collection::vec((0..40u8, 0..300_000_000u64), 1..200),
        most in 1..8usize,
    ) {
        let mut offenders = Offenders::new(most);
        let mut now_us = 0;
        for (who, pause_us) in offences {
            now_us += pause_us;
            offenders.convict(who, now_us);
            prop_assert!(offenders.len() <= most);
            prop_assert!(offenders.is_apart(&who, now_us));
            prop_assert!(!offenders.is_apart(&who, now_us + 600_000_000), "ten minutes at most");
        }
    }
}

#[test]
fn a_server_that_answers_everything_with_errors_is_not_asked_for_each_request() {
    let mut search = ErrorSearch::default();
    assert_eq!((0..1000).filter(|_| search.goes_on()).count(), 8);
}

#[test]
fn who_offends_again_goes_apart_for_longer() {
    let mut offenders = Offenders::new(4);
    offenders.convict("a", 0);
    assert!(offenders.is_apart(&"a", 59_999_999) && !offenders.is_apart(&"a", 60_000_000));
    assert!(!offenders.is_apart(&"b", 0));
    offenders.convict("a", 100_000_000);
    assert!(offenders.is_apart(&"a", 219_999_999) && !offenders.is_apart(&"a", 220_000_000));
    // Long after the end of the last term an offence counts as the first one.
    offenders.convict("a", 1_000_000_000);
    assert!(!offenders.is_apart(&"a", 1_060_000_000));
}

#[test]
fn suspects_that_are_due_or_whose_clients_have_gone_are_taken_out() {
    let mut suspects = Suspects::default();
    suspects.accuse((0..5).collect(), Fault::Broke, false);
    assert_eq!(suspects.take_out(|suspect| suspect % 2 == 0), [0, 2, 4]);
    assert_eq!(suspects.iter().copied().collect::<Vec<_>>(), [1, 3]);
    assert_eq!(suspects.take_out(|suspect| *suspect == 1), [1]);
    assert_eq!(suspects.send(1, |_| true), Some(vec![3]));
    assert!(!suspects.are_waiting());
}

#[test]
fn a_group_that_is_larger_than_a_call_may_be_goes_in_parts() {
    let mut suspects = Suspects::default();
    suspects.accuse((0..16).collect(), Fault::Broke, false);
    assert_eq!(suspects.send(7, |group| group.len() <= 3), Some(vec![0, 1]));
    assert!(!suspects.may_go());
    suspects.ended(6, true);
    assert!(!suspects.may_go(), "that was another call");
    suspects.ended(7, true);
    assert_eq!(suspects.send(8, |_| true), Some(vec![2, 3]));
    assert_eq!(suspects.send(9, |_| true), Some(vec![4, 5, 6, 7]));
}

#[test]
fn a_group_that_could_not_be_sent_goes_next_and_as_it_is() {
    let mut suspects = Suspects::default();
    suspects.accuse((0..8).collect(), Fault::Broke, false);
    let group = suspects.send(1, |_| true).unwrap();
    suspects.ended(1, false);
    suspects.put_back(group, false);
    assert_eq!(suspects.send(2, |_| true), Some(vec![0, 1, 2, 3]));
}

#[test]
fn suspects_of_a_server_that_died_by_itself_are_soon_served() {
    let mut suspects = Suspects::default();
    (0..64).for_each(|suspect| suspects.accuse(vec![suspect], Fault::Broke, false));
    let mut rounds = 0;
    while suspects.are_waiting() {
        rounds += 1;
        let mut calls = Vec::new();
        while let Some(group) = suspects.send(group_number(&calls), |_| true) {
            calls.extend(group);
        }
        (0..calls.len()).for_each(|call| suspects.ended(call as u64, true));
    }
    assert!(rounds <= 7, "{rounds} rounds");
}

fn group_number(calls: &[i32]) -> u64 {
    calls.len() as u64
}

#[test]
fn a_suspect_that_goes_by_itself_has_no_other_beside_it() {
    let mut suspects = Suspects::default();
    suspects.accuse(vec![1], Fault::Broke, false);
    suspects.accuse(vec![2], Fault::Broke, true);
    suspects.accuse(vec![3], Fault::Broke, false);
    suspects.accuse(vec![4], Fault::Broke, false);
    assert_eq!(suspects.send(1, |_| true), Some(vec![1]));
    suspects.ended(1, true);
    assert_eq!(suspects.send(2, |_| true), Some(vec![2]));
    assert!(!suspects.may_go(), "no other suspect beside it, although two may be on trial");
    suspects.ended(2, false);
    assert_eq!(suspects.send(3, |_| true), Some(vec![3]));
    assert!(!suspects.may_go(), "one at a time after a failure");
}

#[test]
fn a_batch_is_overdue_far_beyond_its_prediction_and_never_without_one() {
    let curve =
        |samples| ServiceCurve { alpha_seconds: 0.1, beta_seconds: 0.01, residual_p95_ratio: 0.0, samples };
    assert_eq!(overdue_after_us(None, 10), None);
    assert_eq!(overdue_after_us(Some(&curve(2)), 10), None);
    assert_eq!(overdue_after_us(Some(&curve(64)), 10), Some(800_000));
    let fast = ServiceCurve { alpha_seconds: 1e-3, beta_seconds: 0.0, ..curve(64) };
    assert_eq!(overdue_after_us(Some(&fast), 10), Some(200_000));
}

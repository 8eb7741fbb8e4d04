//! Slots shared between users, as properties over random batch times, weights and numbers of slots.

use proptest::prelude::*;
use sluice_batch_policy::{NextBatch, SlotShare};

/// Grant in use: its end, its user, the time that was charged and the time that it really takes.
type Running = (u64, usize, u64, u64);

#[derive(Debug, Clone)]
struct User {
    weight: u32,
    mean_us: u64,
    /// Expected ÷ real time of each batch, in percent, used in turn.
    guesses: Vec<u64>,
}

fn users() -> impl Strategy<Value = Vec<User>> {
    let user = (1..8u32, 100..20_000u64, prop::collection::vec(50..200u64, 1..5))
        .prop_map(|(weight, mean_us, guesses)| User { weight, mean_us, guesses });
    prop::collection::vec(user, 2..5)
}

fn at_once(expected_us: u64) -> NextBatch {
    NextBatch { expected_us, start_by_us: 0 }
}

proptest! {
    /// All users need slots all the time: slot time is shared by weight, and no slot is ever free.
    #[test]
    fn slot_time_converges_to_the_weights(users in users(), slots in 1..5u32, seed in any::<u64>()) {
        let mut share = SlotShare::new(slots);
        let mut running: Vec<Running> = Vec::new();
        let mut used_us = vec![0u64; users.len()];
        let mut counted = vec![0usize; users.len()];
        let mut state = seed | 1;
        let mut now_us = 0;
        while now_us < 2_000_000 {
            for (index, user) in users.iter().enumerate() {
                let guess = user.guesses[counted[index] % user.guesses.len()];
                share.want(index, user.weight, at_once(user.mean_us * guess / 100));
            }
            while let Some((index, charged_us)) = share.grant(now_us) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let takes_us = users[index].mean_us * (80 + (state >> 33) % 41) / 100;
                running.push((now_us + takes_us, index, charged_us, takes_us));
                counted[index] += 1;
                let user = &users[index];
                let guess = user.guesses[counted[index] % user.guesses.len()];
                share.want(index, user.weight, at_once(user.mean_us * guess / 100));
            }
            prop_assert_eq!(running.len(), slots as usize, "a slot is free while all want one");
            running.sort_unstable();
            let (end_us, index, charged_us, takes_us) = running.remove(0);
            now_us = end_us;
            used_us[index] += takes_us;
            share.give_back(index, charged_us, takes_us);
        }
        let longest: Vec<f64> =
            users.iter().map(|user| 2.0 * user.mean_us as f64 / f64::from(user.weight)).collect();
        let normal: Vec<f64> =
            used_us.iter().zip(&users).map(|(&us, user)| us as f64 / f64::from(user.weight)).collect();
        for a in 0..users.len() {
            for b in 0..a {
                let bound = f64::from(slots + 1) * (longest[a] + longest[b]);
                prop_assert!((normal[a] - normal[b]).abs() <= bound, "{normal:?} differ by more than {bound}");
            }
        }
    }

    /// Whatever users do, there are never more grants than slots, no grant to a user that does not want one, and no
    /// free slot while a user wants one.
    #[test]
    fn grants_are_bounded_and_work_conserving(
        steps in prop::collection::vec((0..4u8, 0..4usize, 0..10_000u64), 1..300), slots in 0..4u32,
    ) {
        let mut share = SlotShare::new(slots);
        let mut wants = [false; 4];
        let mut out: Vec<(usize, u64)> = Vec::new();
        for (at, (what, key, us)) in steps.into_iter().enumerate() {
            match what {
                0 | 1 => {
                    let next = NextBatch { expected_us: us, start_by_us: us * u64::from(what) * 10 };
                    share.want(key, 1 + key as u32, next);
                    wants[key] = true;
                }
                2 => { share.withdraw(key); wants[key] = false; }
                _ if !out.is_empty() => {
                    let (key, charged_us) = out.swap_remove(us as usize % out.len());
                    share.give_back(key, charged_us, us);
                }
                _ => {}
            }
            while let Some((key, charged_us)) = share.grant(at as u64 * 500) {
                prop_assert!(wants[key]);
                wants[key] = false;
                out.push((key, charged_us));
                prop_assert!(out.len() <= slots as usize);
            }
            prop_assert!(out.len() == slots as usize || wants.iter().all(|wants| !wants));
        }
    }

    /// A user that wants a slot gets one, whatever the others need and whatever their deadlines are: before it, each
    /// other user gets no more than its share and one turn.
    #[test]
    fn nobody_starves(users in users(), slots in 1..5u32, patience_us in prop::collection::vec(0..200_000u64, 5)) {
        let mut share = SlotShare::new(slots);
        let mut running: Vec<Running> = Vec::new();
        let mut before = vec![vec![0u64; users.len()]; users.len()];
        // Some users always need a slot, some never do.
        let next = |index: usize, user: &User, now_us: u64| {
            let patience_us = patience_us[index];
            let start_by_us = if patience_us < 50_000 { 0 } else { now_us + patience_us };
            NextBatch { expected_us: user.mean_us, start_by_us }
        };
        let longest_us = |user: &User| 2 * user.mean_us / u64::from(user.weight) + 1;
        let mut now_us = 0;
        for _ in 0..500 {
            for (index, user) in users.iter().enumerate() {
                share.want(index, user.weight, next(index, user, now_us));
            }
            while let Some((index, charged_us)) = share.grant(now_us) {
                running.push((now_us + users[index].mean_us, index, charged_us, users[index].mean_us));
                before[index].fill(0);
                for (waiting, before) in before.iter_mut().enumerate().filter(|(waiting, _)| *waiting != index) {
                    before[index] += 1;
                    let (own, other) = (&users[waiting], &users[index]);
                    let ahead_us = u64::from(slots + 1) * (longest_us(own) + longest_us(other));
                    let most = 1 + u64::from(slots) + ahead_us * u64::from(other.weight) / other.mean_us;
                    prop_assert!(before[index] <= most, "{waiting} waits for {index}: {before:?}, {most}");
                }
                let user = &users[index];
                share.want(index, user.weight, next(index, user, now_us));
            }
            running.sort_unstable();
            let (end_us, index, charged_us, takes_us) = running.remove(0);
            now_us = end_us;
            share.give_back(index, charged_us, takes_us);
        }
    }
}

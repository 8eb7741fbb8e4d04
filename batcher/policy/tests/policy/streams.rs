//! Admission of streams to simulated servers that batch continuously.

use std::collections::VecDeque;

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use sluice_batch_policy::{
    Arrival, Left, LimitBounds, NO_DEADLINE, StreamAdmission, StreamAdmissionSettings,
};

const BOUNDS: LimitBounds = LimitBounds { least: 1.0, most: 512.0, start: 32.0 };
const SETTINGS: StreamAdmissionSettings =
    StreamAdmissionSettings { bounds: BOUNDS, most_waiting: 64, hold_us: 30_000_000 };
const SECOND_US: u64 = 1_000_000;

/// Server that makes one token for each of its streams per step of (α + β·streams), ± noise. At most `most` streams run
/// at a time; others wait inside the server.
#[derive(Clone, Copy)]
struct Server {
    most: usize,
    alpha_us: f64,
    beta_us: f64,
    /// Mean tokens of a stream; the tokens vary between half and one and a half times that.
    tokens: u32,
    noise: f64,
}

impl Server {
    fn step_us(&self, streams: usize) -> f64 {
        self.alpha_us + self.beta_us * streams as f64
    }

    /// Returns the tokens per second with `streams` streams offered.
    fn throughput(&self, streams: usize) -> f64 {
        let running = streams.min(self.most);
        running as f64 / self.step_us(running) * 1e6
    }
}

struct Stream {
    started_us: u64,
    weight: f64,
    tokens: u32,
    done: u32,
}

struct World {
    admission: StreamAdmission<()>,
    now_us: u64,
    random: SmallRng,
    inside: VecDeque<Stream>,
    /// Number of requests that clients keep waiting for admission.
    backlog: usize,
}

/// Mean values of a run.
#[derive(Debug, Default)]
struct Measured {
    throughput: f64,
    in_flight: f64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut admission = StreamAdmission::new(SETTINGS, 0);
        admission.set_servers(0, 1);
        Self {
            admission,
            now_us: 0,
            random: SmallRng::seed_from_u64(seed),
            inside: VecDeque::new(),
            backlog: 40,
        }
    }

    fn run(&mut self, server: &Server, seconds: u64) -> Measured {
        let (begun_us, mut tokens, mut stream_us) = (self.now_us, 0u64, 0.0);
        while self.now_us < begun_us + seconds * SECOND_US {
            while self.admission.waiting() < self.backlog {
                assert_eq!(self.admission.arrive(self.now_us, 0, NO_DEADLINE, None, ()), Arrival::Waits);
            }
            while let Some(left) = self.admission.next(self.now_us) {
                let Left::Starts { weight, .. } = left else { panic!("{left:?}") };
                let tokens = self.random.random_range(server.tokens.div_ceil(2)..=server.tokens * 3 / 2);
                self.inside.push_back(Stream { started_us: self.now_us, weight, tokens, done: 0 });
            }
            let running = self.inside.len().min(server.most);
            let noise = 1.0 + self.random.random_range(-server.noise..=server.noise);
            let step_us = (server.step_us(running.max(1)) * noise) as u64;
            self.now_us += step_us;
            stream_us += self.inside.len() as f64 * step_us as f64;
            for stream in self.inside.iter_mut().take(running) {
                stream.done += 1;
                if stream.done == 1 {
                    let seconds = (self.now_us - stream.started_us) as f64 / 1e6;
                    self.admission.first_token(seconds);
                }
            }
            tokens += running as u64;
            self.admission.work(running as f64);
            let mut index = 0;
            while index < self.inside.len() {
                if self.inside[index].done >= self.inside[index].tokens {
                    let stream = self.inside.remove(index).unwrap();
                    let seconds = (self.now_us - stream.started_us) as f64 / 1e6;
                    self.admission.ended(self.now_us, stream.weight, Some(seconds));
                } else {
                    index += 1;
                }
            }
            self.admission.turn(self.now_us);
        }
        let elapsed_us = (self.now_us - begun_us) as f64;
        Measured { throughput: tokens as f64 / elapsed_us * 1e6, in_flight: stream_us / elapsed_us }
    }
}

const FLAT: Server = Server { most: 16, alpha_us: 10_000.0, beta_us: 50.0, tokens: 60, noise: 0.1 };

#[test]
fn the_number_that_a_server_runs_at_a_time_is_found_from_below_and_from_above() {
    for most in [1, 2, 8, 48, 200] {
        for seed in 0..2 {
            let server = Server { most, ..FLAT };
            let mut world = World::new(seed);
            world.run(&server, 120);
            let measured = world.run(&server, 120);
            let best = server.throughput(most);
            assert!(measured.throughput > 0.9 * best, "{most}, seed {seed}: {measured:?}, best {best}");
            assert!(measured.in_flight < 1.6 * most as f64 + 1.0, "{most}, seed {seed}: {measured:?}");
        }
    }
}

#[test]
fn a_server_that_gets_slower_with_each_stream_is_not_throttled_while_it_does_more() {
    // The time to first token at 100 streams is five times that at one; throughput is twenty times.
    let server = Server { most: 10_000, alpha_us: 20_000.0, beta_us: 800.0, tokens: 60, noise: 0.1 };
    for seed in 0..3 {
        let mut world = World::new(seed);
        world.run(&server, 200);
        let measured = world.run(&server, 200);
        let best = server.throughput(512);
        assert!(measured.throughput > 0.75 * best, "seed {seed}: {measured:?}, best {best}");
        // A limiter by latency alone would stop where latency is one and a half times that of one stream.
        assert!(measured.in_flight > 40.0, "seed {seed}: {measured:?}");
    }
}

#[test]
fn a_server_that_changes_is_followed() {
    let (large, small) = (Server { most: 64, ..FLAT }, Server { most: 8, alpha_us: 20_000.0, ..FLAT });
    for seed in 0..3 {
        let mut world = World::new(seed);
        for server in [large, small, large] {
            world.run(&server, 240);
            let measured = world.run(&server, 60);
            let best = server.throughput(server.most);
            assert!(
                measured.throughput > 0.85 * best,
                "{}, seed {seed}: {measured:?}, best {best}",
                server.most
            );
            assert!(
                measured.in_flight < 1.8 * server.most as f64,
                "{}, seed {seed}: {measured:?}",
                server.most
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_the_server_nothing_is_lost_and_little_waits_inside(
        most in 1usize..128, alpha_us in 4_000.0f64..40_000.0, tokens in 10u32..120, noise in 0.0f64..0.3, seed: u64,
    ) {
        // With most streams a step takes at most twice as long as with one.
        let server = Server { most, alpha_us, beta_us: alpha_us / most as f64, tokens, noise };
        let mut world = World::new(seed);
        // A hundred streams one after the other, and forty of the longest windows: the limit is learned from streams
        // that end, and the first 32 of them may take minutes to leave a server of one slot.
        let stream_seconds = f64::from(tokens) * server.step_us(most) / 1e6;
        world.run(&server, (100.0 * stream_seconds).max(800.0) as u64);
        let measured = world.run(&server, 400);
        let best = server.throughput(most);
        prop_assert!(measured.throughput > 0.85 * best, "{measured:?}, best {best}");
        prop_assert!(measured.in_flight < 2.0 * most as f64 + 1.0, "{measured:?}");
    }
}

#[test]
fn a_limit_that_nobody_reaches_stays() {
    let mut world = World::new(1);
    world.backlog = 0;
    let before = world.admission.limit();
    for second in 0..600 {
        let now_us = second * SECOND_US;
        world.admission.arrive(now_us, 0, NO_DEADLINE, None, ());
        assert!(matches!(world.admission.next(now_us), Some(Left::Starts { .. })));
        world.admission.first_token(0.02);
        world.admission.work(100.0);
        world.admission.ended(now_us + SECOND_US / 2, 1.0, Some(0.5));
        world.admission.turn(now_us + SECOND_US / 2);
    }
    assert_eq!(world.admission.limit(), before);
}

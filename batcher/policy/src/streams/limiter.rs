//! Learns from throughput and time to first token how many streams a server can have at a time.

/// Bounds of a learned limit, in streams.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct LimitBounds {
    /// Smallest limit.
    pub least: f64,
    /// Largest limit.
    pub most: f64,
    /// Limit before anything is known.
    pub start: f64,
}

/// Learned limit of the streams in flight at one server.
///
/// Envoy's adaptive concurrency and Netflix' concurrency-limits (Vegas, Gradient2) compare latency now with latency at
/// low load, shrink the limit where latency has grown, and raise it by √limit where not. A server that batches
/// continuously gets slower with every stream, and yet does more work per second: by latency alone it would be
/// throttled for its batching. So here latency counts only where **throughput shows that nothing is lost**: per level
/// of concurrency (quarters of an octave) the limiter remembers throughput (tokens or answers per second) and the mean
/// time to first token. The *knee* is the lowest level that may have nearly the best throughput, as far as that is
/// known: a level that was measured once has the benefit of the doubt, so that it is measured again.
///
/// - Above the knee, where the time to first token is also clearly longer than at the knee, streams only wait inside
///   the server: the limit goes back to the knee.
/// - Where no level just below the knee was tried, one is tried: it may lose nothing either.
/// - Everywhere else the limit grows, doubling until it shrinks for the first time and by √limit from then on.
///
/// The limit changes only while other requests wait: a limit that is not reached shows nothing.
///
/// A change of the server is noticed where throughput is twice in a row far from that of its level; and levels are
/// forgotten with time.
#[derive(Debug, Clone)]
pub struct ConcurrencyLimiter {
    bounds: LimitBounds,
    limit: f64,
    has_shrunk: bool,
    levels: [Option<Level>; LEVELS],
    /// Whether throughput of the last window was far from that of its level.
    was_far: bool,
    window: Window,
    /// Instant until which the last change of the limit is still taking effect, microseconds.
    settles_us: u64,
}

/// Memory of one level of concurrency.
#[derive(Debug, Clone, Copy)]
struct Level {
    /// Units of work per second.
    throughput: f64,
    first_seconds: f64,
    seen_us: u64,
    /// Number of windows that were averaged, up to [`MOST_COUNTED`].
    windows: f64,
}

/// Measurements since the last decision.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    since_us: u64,
    /// Instant up to which the sums below are complete, microseconds.
    until_us: u64,
    in_flight: f64,
    waiting: bool,
    /// In flight × µs.
    stream_us: f64,
    waiting_us: u64,
    firsts: u32,
    first_seconds: f64,
    work: f64,
}

/// Number of levels per octave of concurrency.
const PER_OCTAVE: f64 = 4.0;
/// Number of levels: up to 2^16 streams.
const LEVELS: usize = 65;
/// Shortest and longest time between decisions, microseconds.
const LEAST_WINDOW_US: u64 = 500_000;
const MOST_WINDOW_US: u64 = 20_000_000;
/// Fewest first tokens for a decision, and fewest at the end of the longest window.
const ENOUGH_FIRSTS: u32 = 8;
const FEW_FIRSTS: u32 = 3;
/// Part of the best throughput that the knee has at least.
const NEARLY_BEST: f64 = 0.97;
/// Factor from the knee to the lower level that is tried, where the knee is the lowest level known.
const LOWER: f64 = 0.7;
/// Largest time to first token that is accepted, as a multiple of that at the knee.
const TOLERATED_WAIT: f64 = 1.25;
/// Weight of a longer time to first token in the average; a shorter one replaces the average at once.
const SLOWLY: f64 = 0.125;
/// Relative error of the throughput of one window. For n windows it is √n times smaller, up to `MOST_COUNTED` windows.
const DOUBT: f64 = 0.1;
const MOST_COUNTED: f64 = 16.0;
/// Relative difference beyond which throughput is far from what it was.
const FAR: f64 = 0.3;
/// Time after which a level is forgotten, microseconds.
const FORGET_US: u64 = 600_000_000;
/// Multiple of the limit above which the streams in flight are still those of an earlier, higher limit.
const LEAVING: f64 = 1.2;
/// Longest time for a change of the limit to take effect, microseconds.
const MOST_SETTLING_US: u64 = 20_000_000;

impl ConcurrencyLimiter {
    /// Creates a limiter without measurements. Bounds below 1 count as 1.
    pub fn new(bounds: LimitBounds, now_us: u64) -> Self {
        let mut limiter = Self {
            bounds,
            limit: 1.0,
            has_shrunk: false,
            levels: [None; LEVELS],
            was_far: false,
            window: Window { since_us: now_us, until_us: now_us, ..Window::default() },
            settles_us: now_us,
        };
        limiter.set_bounds(bounds);
        limiter.limit = limiter.within(bounds.start);
        limiter
    }

    /// Sets other bounds.
    pub fn set_bounds(&mut self, bounds: LimitBounds) {
        let least = bounds.least.max(1.0);
        self.bounds = LimitBounds { least, most: bounds.most.max(least), start: bounds.start };
        self.limit = self.within(self.limit);
    }

    /// Returns the number of streams that may be in flight at one server.
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// Notes that from now on `in_flight` streams are in flight at one server, on average, and whether others wait.
    pub fn set(&mut self, now_us: u64, in_flight: f64, waiting: bool) {
        self.settle(now_us);
        self.window.in_flight = in_flight;
        self.window.waiting = waiting;
    }

    /// Notes that a stream had its first token, `seconds` after it was sent.
    pub fn first_token(&mut self, seconds: f64) {
        if seconds.is_finite() && seconds >= 0.0 {
            self.window.firsts += 1;
            self.window.first_seconds += seconds;
        }
    }

    /// Adds work that was done by one server: tokens, or answers where tokens are not known.
    pub fn work(&mut self, units: f64) {
        self.window.work += units;
    }

    /// Decides on the limit where enough was measured, and returns whether the limit has changed. Call it at every
    /// event, and at least every second while others wait.
    pub fn turn(&mut self, now_us: u64) -> bool {
        self.settle(now_us);
        if now_us < self.settles_us {
            self.restart(now_us);
            return false;
        }
        let window = self.window;
        let elapsed_us = now_us.saturating_sub(window.since_us);
        let is_over = match window.firsts {
            ENOUGH_FIRSTS.. => elapsed_us >= LEAST_WINDOW_US,
            _ => elapsed_us >= MOST_WINDOW_US,
        };
        if !is_over {
            return false;
        }
        self.restart(now_us);
        if window.firsts < FEW_FIRSTS || window.work <= 0.0 {
            return false;
        }
        let concurrency = window.stream_us / elapsed_us as f64;
        let throughput = window.work / (elapsed_us as f64 / crate::US_PER_SECOND);
        let first_seconds = window.first_seconds / f64::from(window.firsts);
        let at = level(concurrency);
        if concurrency > LEAVING * self.limit {
            // Streams of a higher limit are still leaving.
            return false;
        }
        self.remember(at, throughput, first_seconds, now_us);
        if window.waiting_us < elapsed_us / 2 {
            return false;
        }
        let before = self.limit;
        self.limit = self.within(self.next_limit(at, first_seconds));
        let changed = (self.limit - before).abs() > f64::EPSILON;
        if changed {
            let settling_us = crate::to_us(first_seconds).min(MOST_SETTLING_US);
            self.settles_us = now_us.saturating_add(settling_us);
            self.has_shrunk |= self.limit < before;
        }
        changed
    }

    fn next_limit(&self, at: usize, first_seconds: f64) -> f64 {
        let known = || self.levels.iter().enumerate().filter_map(|(at, level)| Some((at, (*level)?)));
        let best = known().map(|(_, level)| level.at_least()).fold(0.0, f64::max);
        let knee = known().find(|(_, level)| level.at_most() >= NEARLY_BEST * best);
        if let Some((knee_at, _)) = knee
            && at >= knee_at
            && knee_at > 0
            && known().next_back().is_some_and(|(highest, _)| highest > knee_at)
            // One stream fewer, where that is more than a level.
            && self.levels[level(centre(knee_at) - 1.0).min(knee_at - 1)..knee_at].iter().all(Option::is_none)
        {
            let is_lowest = known().next().is_some_and(|(lowest, _)| lowest == knee_at);
            let lower = if is_lowest { centre(knee_at) * LOWER } else { centre(knee_at - 1) };
            return self.limit.min(lower);
        }
        if let Some((knee_at, knee)) = knee
            && knee_at < at
            && first_seconds > TOLERATED_WAIT * knee.first_seconds
        {
            return self.limit.min(centre(knee_at));
        }
        if self.has_shrunk { self.limit + self.limit.sqrt() } else { self.limit * 2.0 }
    }

    fn remember(&mut self, at: usize, throughput: f64, first_seconds: f64, now_us: u64) {
        for level in &mut self.levels {
            *level = level.filter(|level| now_us.saturating_sub(level.seen_us) < FORGET_US);
        }
        let new = Level { throughput, first_seconds, seen_us: now_us, windows: 1.0 };
        let Some(known) = self.levels[at] else {
            self.levels[at] = Some(new);
            return;
        };
        let is_far = (throughput / known.throughput - 1.0).abs() > FAR;
        self.levels[at] = Some(if !is_far {
            let windows = (known.windows + 1.0).min(MOST_COUNTED);
            Level {
                windows,
                throughput: known.throughput + (throughput - known.throughput) / windows,
                // Requests of a higher level that still wait in the server make it longer: the shorter one is right.
                first_seconds: first_seconds
                    .min(known.first_seconds + SLOWLY * (first_seconds - known.first_seconds)),
                ..new
            }
        } else if self.was_far {
            // Once may be chance. Twice in a row, the server has changed, and the other levels are wrong as well.
            self.levels = [None; LEVELS];
            new
        } else {
            Level { seen_us: now_us, ..known }
        });
        self.was_far = is_far;
    }

    fn within(&self, limit: f64) -> f64 {
        limit.clamp(self.bounds.least, self.bounds.most)
    }

    fn settle(&mut self, now_us: u64) {
        let passed_us = now_us.saturating_sub(self.window.until_us);
        self.window.stream_us += self.window.in_flight * passed_us as f64;
        if self.window.waiting {
            self.window.waiting_us += passed_us;
        }
        self.window.until_us = self.window.until_us.max(now_us);
    }

    fn restart(&mut self, now_us: u64) {
        let Window { in_flight, waiting, .. } = self.window;
        self.window = Window { since_us: now_us, until_us: now_us, in_flight, waiting, ..Window::default() };
    }
}

impl Level {
    fn at_least(&self) -> f64 {
        self.throughput * (1.0 - DOUBT / self.windows.sqrt())
    }

    fn at_most(&self) -> f64 {
        self.throughput * (1.0 + DOUBT / self.windows.sqrt())
    }
}

/// Returns the level of a concurrency.
fn level(concurrency: f64) -> usize {
    // The cast saturates at 0.
    ((concurrency.max(1.0).log2() * PER_OCTAVE).round() as usize).min(LEVELS - 1)
}

/// Returns the concurrency in the middle of a level.
fn centre(level: usize) -> f64 {
    (level as f64 / PER_OCTAVE).exp2()
}

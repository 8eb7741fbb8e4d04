//! Computes the embedded Markov chain.
use super::QueueModel;

/// Probabilities below this count as zero.
const NEGLIGIBLE: f64 = 1e-8;
/// The iteration ends when the distribution moves less than this (sum of absolute changes), or after [`ITERATIONS`].
const STILL: f64 = 1e-5;
const ITERATIONS: u32 = 400;
/// Points in time within a batch's service at which arrivals are looked at.
const MOMENTS: u32 = 8;
/// Latencies are counted in bins of 1/128 of the shortest service up to 32 of it, then of 1/128 of the longest.
const BINS_PER_SERVICE: f64 = 128.0;
const FINE_BINS: usize = 4096;
const COARSE_BINS: usize = 4096;

/// Upper limit of a mean. Real ones, rows that arrive during a batch, are at most some hundreds.
const MAX_MEAN: f64 = 1e6;

/// A Poisson distribution without its negligible tails: P(first + i) = p[i].
struct Poisson {
    first: usize,
    p: Vec<f64>,
}

impl Poisson {
    /// Computes it by recurrence from the mode outwards and scales it to 1, so that no exponential is needed.
    fn new(mean: f64) -> Self {
        if !(mean > 0.0 && mean < MAX_MEAN) {
            // Without arrivals, or with a mean that is not a number, the recurrence would never end.
            return Self { first: 0, p: vec![1.0] };
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "means are at most some hundreds"
        )]
        let mode = mean.floor() as usize;
        let mut down = Vec::new();
        let mut p = 1.0;
        for k in (1..=mode).rev() {
            p *= count(k) / mean;
            if p < NEGLIGIBLE {
                break;
            }
            down.push(p);
        }
        let first = mode - down.len();
        let mut all: Vec<f64> = down.into_iter().rev().collect();
        all.push(1.0);
        let mut p = 1.0;
        for k in mode + 1.. {
            p *= mean / count(k);
            if p < NEGLIGIBLE {
                break;
            }
            all.push(p);
        }
        let total: f64 = all.iter().sum();
        all.iter_mut().for_each(|p| *p /= total);
        Self { first, p: all }
    }

    fn iter(&self) -> impl Iterator<Item = (usize, f64)> + '_ {
        self.p.iter().enumerate().map(|(i, p)| (self.first + i, *p))
    }
}

/// Returns the latency at the slot's quantile, milliseconds, at `load` (share of saturation, below 1).
pub(super) fn quantile_ms(slot: &QueueModel, load: f64) -> f64 {
    if load <= 0.0 {
        return slot.batch_ms(1);
    }
    let units_per_ms = load * f64::from(slot.units) / slot.batch_ms(slot.units);
    let left = stationary(slot, units_per_ms);
    latencies(slot, units_per_ms, &left).quantile(slot.quantile)
}

/// Returns the distribution of the units left waiting at the end of a batch.
fn stationary(slot: &QueueModel, units_per_ms: f64) -> Vec<f64> {
    let batch = slot.units as usize;
    let states = (8 * batch).max(160);
    let arrivals: Vec<Poisson> =
        (0..=slot.units).map(|b| Poisson::new(units_per_ms * slot.batch_ms(b.max(1)))).collect();
    // Where it would stand without randomness: L = α + β·λ·L.
    let still = slot.alpha_ms / (1.0 - slot.unit_ms * units_per_ms).max(0.1) * units_per_ms;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to a batch")]
    let still = still.clamp(0.0, f64::from(slot.units)) as usize;
    let mut now = vec![0.0; states];
    now[still] = 1.0;
    let mut next = vec![0.0; states];
    for _ in 0..ITERATIONS {
        next.fill(0.0);
        for (q, &p) in now.iter().enumerate().filter(|(_, p)| **p > NEGLIGIBLE) {
            let served = q.clamp(1, batch);
            let rest = q.saturating_sub(served);
            let arrivals = &arrivals[served];
            let from = rest + arrivals.first;
            if from + arrivals.p.len() <= states {
                // The common case in a form that the compiler vectorises.
                let targets = &mut next[from..from + arrivals.p.len()];
                targets.iter_mut().zip(&arrivals.p).for_each(|(target, a)| *target += p * a);
            } else {
                arrivals.iter().for_each(|(k, a)| next[(rest + k).min(states - 1)] += p * a);
            }
        }
        let moved: f64 = now.iter().zip(&next).map(|(a, b)| (a - b).abs()).sum();
        std::mem::swap(&mut now, &mut next);
        if moved < STILL {
            break;
        }
    }
    now
}

/// Returns the weighted latencies of arriving units.
fn latencies(slot: &QueueModel, units_per_ms: f64, left: &[f64]) -> Histogram {
    let batch = slot.units as usize;
    let mut histogram = Histogram::new(slot);
    // Arrivals before each moment, for each size of the batch in service.
    let mut before: Vec<Option<Vec<Poisson>>> = (0..=batch).map(|_| None).collect();
    for (q, &p) in left.iter().enumerate().filter(|(_, p)| **p > 1e-6) {
        if q == 0 {
            // The slot is idle: the next unit is served at once, alone.
            histogram.add(slot.batch_ms(1), p);
        }
        let served = q.clamp(1, batch);
        let service = slot.batch_ms(u32::try_from(served).unwrap_or(u32::MAX));
        let ahead_at_start = q.saturating_sub(served);
        let moments = before[served].get_or_insert_with(|| {
            (0..MOMENTS).map(|m| Poisson::new(units_per_ms * service * moment(m))).collect()
        });
        let weight = p * units_per_ms * service / f64::from(MOMENTS);
        for (m, arrived) in moments.iter().enumerate() {
            let rest = service * (1.0 - moment(u32::try_from(m).unwrap_or(0)));
            let mut own_batch = OwnBatch::default();
            for (n, probability) in arrived.iter().filter(|(_, p)| *p > 1e-6) {
                let ahead = ahead_at_start + n;
                let full_batches = ahead / batch;
                let wait = rest + count(full_batches) * slot.batch_ms(slot.units);
                own_batch.after(wait, units_per_ms);
                for (later, share) in own_batch.later {
                    let own = (count(ahead % batch) + 1.0 + later).min(f64::from(slot.units));
                    histogram.add(wait + slot.alpha_ms + slot.unit_ms * own, weight * probability * share);
                }
            }
        }
    }
    histogram
}

/// Number of units that join the batch of an arriving unit while it waits: a Poisson variable, approximated by three
/// points with its mean and variance.
#[derive(Default)]
struct OwnBatch {
    wait_ms: f64,
    /// (units, share)
    later: [(f64, f64); 3],
}

impl OwnBatch {
    fn after(&mut self, wait_ms: f64, units_per_ms: f64) {
        // Neighbouring arrivals mostly wait equally long.
        if wait_ms.to_bits() == self.wait_ms.to_bits() {
            return;
        }
        let mean = units_per_ms * wait_ms;
        let spread = (3.0 * mean).sqrt();
        self.wait_ms = wait_ms;
        self.later = [((mean - spread).max(0.0), 1.0 / 6.0), (mean, 2.0 / 3.0), (mean + spread, 1.0 / 6.0)];
    }
}

/// Returns the middle of the m-th part of a service, 0 to 1.
fn moment(m: u32) -> f64 {
    (f64::from(m) + 0.5) / f64::from(MOMENTS)
}

#[expect(clippy::cast_precision_loss, reason = "counts of units, far below 2^52")]
fn count(n: usize) -> f64 {
    n as f64
}

/// Histogram of weighted latencies, finer where they are short.
struct Histogram {
    fine_ms: f64,
    coarse_ms: f64,
    bins: Vec<f64>,
}

impl Histogram {
    fn new(slot: &QueueModel) -> Self {
        Self {
            fine_ms: slot.batch_ms(1) / BINS_PER_SERVICE,
            coarse_ms: slot.batch_ms(slot.units) / BINS_PER_SERVICE,
            bins: vec![0.0; FINE_BINS + COARSE_BINS],
        }
    }

    fn add(&mut self, latency_ms: f64, weight: f64) {
        let fine = count(FINE_BINS) * self.fine_ms;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "positive; too large is clamped"
        )]
        let bin = if latency_ms < fine {
            (latency_ms / self.fine_ms) as usize
        } else {
            FINE_BINS + ((latency_ms - fine) / self.coarse_ms) as usize
        };
        let last = self.bins.len() - 1;
        self.bins[bin.min(last)] += weight;
    }

    /// Returns the upper end of the bin in which the quantile lies.
    fn quantile(&self, quantile: f64) -> f64 {
        let total: f64 = self.bins.iter().sum();
        let mut sum = 0.0;
        for (bin, weight) in self.bins.iter().enumerate() {
            sum += weight;
            if sum >= quantile * total {
                return if bin < FINE_BINS {
                    count(bin + 1) * self.fine_ms
                } else {
                    count(FINE_BINS) * self.fine_ms + count(bin + 1 - FINE_BINS) * self.coarse_ms
                };
            }
        }
        f64::INFINITY
    }
}

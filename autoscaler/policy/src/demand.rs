//! Measures the rows per second that arrive, and forecasts them for when a replica that is started now is ready.
//!
//! The source are counters of rows that arrived. A counter that falls has restarted at zero. Samples that are not
//! numbers are skipped. Without a recent sample the demand is not known, which is never zero; where only some processes
//! are known, the result is a lower bound and [`Demand::complete`] is false.
use crate::input::Series;
use crate::signals::is_count;
use crate::spec::Windows;

/// Standard deviations by which a burst or a trend must stand out to count.
const SIGNIFICANT: f64 = 3.0;
/// Maximum of a forecast, as a multiple of the measured rate.
const MAX_GROWTH: f64 = 2.0;
/// Indices of dispersion that are distinguished: a measurement over a minute is too noisy for more.
const BURSTINESS: [f64; 5] = [1.0, 2.0, 4.0, 8.0, 16.0];

/// Demand on a workload, from its counters.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Demand {
    /// Rows per second over the demand window.
    pub rate: f64,
    /// Rows per second over the burst window, or over the newest part of it where a burst began just now.
    pub burst: f64,
    /// Part of `burst` that is not chance.
    pub significant_burst: f64,
    /// Rows per second expected after the start-up time; never below `rate`.
    pub forecast: f64,
    /// Index of dispersion of arrivals, rounded: 1 = Poisson.
    pub burstiness: f64,
    /// Whether every process is known and recent. Only then may less demand mean fewer replicas.
    pub complete: bool,
    /// Time at which a counter last rose, milliseconds; `None` where none rose in the samples.
    pub last_arrival_ms: Option<u64>,
}

/// Rows that arrived between two samples of one process.
#[derive(Debug, Clone, Copy)]
struct Interval {
    from_ms: u64,
    to_ms: u64,
    rows: f64,
}

impl Interval {
    fn seconds(self) -> f64 {
        seconds(self.to_ms - self.from_ms)
    }
}

/// Returns the demand at `now_ms` with a forecast for `startup_ms` later; `None` where nothing recent is known.
pub fn measure(series: &[Series], now_ms: u64, windows: &Windows, startup_ms: u64) -> Option<Demand> {
    let per_process: Vec<Vec<Interval>> = series.iter().map(|one| intervals(one, now_ms)).collect();
    let (known, complete) = freshness(series, now_ms, windows.stale_ms);
    if !known {
        return None;
    }
    let rate = rate(&per_process, now_ms, windows.demand_ms)?;
    let burstiness = burstiness(&per_process, now_ms, windows.demand_ms.max(windows.trend_ms));
    let (burst, significant_burst) = burst(&per_process, now_ms, windows, burstiness).unwrap_or((rate, 0.0));
    let forecast = forecast(&per_process, now_ms, windows, startup_ms, (rate, burst));
    let forecast = forecast.clamp(rate, (MAX_GROWTH * rate.max(significant_burst)).max(rate));
    let arrivals = per_process.iter().flatten().filter(|i| i.rows > 0.0).map(|i| i.to_ms);
    Some(Demand {
        rate,
        burst,
        significant_burst,
        forecast,
        burstiness,
        complete,
        last_arrival_ms: arrivals.max(),
    })
}

fn seconds(ms: u64) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "milliseconds of a window")]
    let ms = ms as f64;
    ms / 1000.0
}

fn intervals(series: &Series, now_ms: u64) -> Vec<Interval> {
    let mut intervals = Vec::new();
    let mut last: Option<(u64, f64)> = None;
    for sample in series.samples.iter().filter(|s| is_count(s.value) && s.at_ms <= now_ms) {
        if let Some((from_ms, before)) = last {
            if sample.at_ms <= from_ms {
                continue;
            }
            let rows = if sample.value >= before { sample.value - before } else { sample.value };
            intervals.push(Interval { from_ms, to_ms: sample.at_ms, rows });
        }
        last = Some((sample.at_ms, sample.value));
    }
    intervals
}

/// Returns whether any process is recent, and whether every process is.
fn freshness(series: &[Series], now_ms: u64, stale_ms: u64) -> (bool, bool) {
    let is_recent = |s: &Series| {
        let newest = s.samples.iter().rev().find(|x| x.at_ms <= now_ms);
        newest.is_some_and(|x| is_count(x.value) && now_ms - x.at_ms <= stale_ms)
    };
    (series.iter().any(is_recent), series.iter().all(is_recent))
}

/// Returns the rows per second over the newest `window_ms`; `None` before there are two samples of any process.
fn rate(per_process: &[Vec<Interval>], now_ms: u64, window_ms: u64) -> Option<f64> {
    let start = now_ms.saturating_sub(window_ms);
    let mut sum = None;
    for intervals in per_process {
        let (mut rows, mut time) = (0.0, 0.0);
        for interval in intervals.iter().filter(|i| i.to_ms > start) {
            // An interval that began before the window counts with the part inside.
            let inside = seconds(interval.to_ms - interval.from_ms.max(start)) / interval.seconds();
            rows += interval.rows * inside;
            time += interval.seconds() * inside;
        }
        if time > 0.0 {
            *sum.get_or_insert(0.0) += rows / time;
        }
    }
    sum
}

/// Returns the rows per second of the newest burst window and the part of them that is not chance.
///
/// Uses a third or a sixth of the window where it stands out more, so that a step shows within the first second. The
/// shorter the part, the clearer it must stand out.
fn burst(
    per_process: &[Vec<Interval>],
    now_ms: u64,
    windows: &Windows,
    burstiness: f64,
) -> Option<(f64, f64)> {
    let whole = [(1, SIGNIFICANT), (3, SIGNIFICANT + 1.0), (6, SIGNIFICANT + 1.0)];
    let mut best: Option<(f64, f64)> = None;
    for (part, deviations) in whole {
        let window_ms = (windows.burst_ms / part).max(1);
        let Some(rate) = rate(per_process, now_ms, window_ms) else { continue };
        let noise = (burstiness * rate / seconds(window_ms)).sqrt();
        let significant = (rate - deviations * noise).max(0.0);
        if best.is_none_or(|(_, most)| significant > most) {
            best = Some((rate, significant));
        }
    }
    best
}

/// Returns the index of dispersion of arrivals.
///
/// Computed from differences of neighbouring intervals, so that a trend is not taken for noise, and without the largest
/// difference, so that a step is not either.
fn burstiness(per_process: &[Vec<Interval>], now_ms: u64, window_ms: u64) -> f64 {
    let start = now_ms.saturating_sub(window_ms);
    let (mut observed, mut poisson, mut pairs, mut largest) = (0.0, 0.0, 0_u32, 0.0_f64);
    for intervals in per_process {
        let recent: Vec<Interval> = intervals.iter().copied().filter(|i| i.from_ms >= start).collect();
        for pair in recent.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            let difference = a.rows / a.seconds() - b.rows / b.seconds();
            let mean = (a.rows + b.rows) / (a.seconds() + b.seconds());
            observed += difference * difference;
            largest = largest.max(difference * difference);
            poisson += mean * (1.0 / a.seconds() + 1.0 / b.seconds());
            pairs += 1;
        }
    }
    if pairs < 5 || poisson <= 0.0 {
        return 1.0;
    }
    let index = (observed - largest) / poisson;
    // 2 from 1.6 on: Poisson itself shows up to 1.5 over two minutes of one-second samples.
    BURSTINESS.into_iter().rev().find(|grade| index >= 0.8 * grade).unwrap_or(1.0)
}

/// Returns the rate in `startup_ms` from now by the linear trend of the trend window; the present rate where there is no
/// clear trend.
///
/// Starts at most at the burst window's rate: a step must not be taken for the beginning of a longer climb.
fn forecast(
    per_process: &[Vec<Interval>],
    now_ms: u64,
    windows: &Windows,
    startup_ms: u64,
    (rate, burst): (f64, f64),
) -> f64 {
    const PARTS: u64 = 12;
    let part_ms = (windows.trend_ms / PARTS).max(1);
    let rates: Option<Vec<f64>> = (0..PARTS)
        .map(|part| {
            self::rate_between(
                per_process,
                now_ms.checked_sub((part + 1) * part_ms)?,
                now_ms - part * part_ms,
            )
        })
        .collect();
    let Some(rates) = rates else { return rate };
    // x = seconds before now of the middle of each part.
    let points: Vec<(f64, f64)> = rates
        .iter()
        .enumerate()
        .map(|(part, rate)| {
            #[expect(clippy::cast_precision_loss, reason = "twelve parts")]
            let middle = part as f64 + 0.5;
            (-middle * seconds(part_ms), *rate)
        })
        .collect();
    #[expect(clippy::cast_precision_loss, reason = "twelve parts")]
    let n = points.len() as f64;
    let mean_x = points.iter().map(|p| p.0).sum::<f64>() / n;
    let mean_y = points.iter().map(|p| p.1).sum::<f64>() / n;
    let xx: f64 = points.iter().map(|p| (p.0 - mean_x) * (p.0 - mean_x)).sum();
    let xy: f64 = points.iter().map(|p| (p.0 - mean_x) * (p.1 - mean_y)).sum();
    let slope = xy / xx;
    let residual: f64 = points.iter().map(|p| p.1 - mean_y - slope * (p.0 - mean_x)).map(|r| r * r).sum();
    let error = (residual / (n - 2.0) / xx).sqrt();
    if slope.is_nan() || slope <= SIGNIFICANT * error {
        return rate;
    }
    (mean_y - slope * mean_x).min(burst) + slope * seconds(startup_ms)
}

/// Returns the rows per second between two times; `None` where no process has samples there.
fn rate_between(per_process: &[Vec<Interval>], from_ms: u64, to_ms: u64) -> Option<f64> {
    let mut covered = false;
    let mut rows = 0.0;
    for interval in per_process.iter().flatten() {
        let (start, end) = (interval.from_ms.max(from_ms), interval.to_ms.min(to_ms));
        if start < end {
            covered = true;
            rows += interval.rows * seconds(end - start) / interval.seconds();
        }
    }
    covered.then(|| rows / seconds(to_ms - from_ms))
}

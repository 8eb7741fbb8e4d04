//! Gauges over a sliding window, fed with instants.

/// Number of buckets of a window: it slides in steps of a sixty-fourth of its length.
pub(crate) const BUCKETS: usize = 64;

/// Share of slot time that was busy, over a sliding window.
#[derive(Debug, Clone)]
pub struct BusyWindow {
    ring: Ring<SlotTime>,
    since_us: u64,
    busy: u32,
    slots: u32,
}

/// Slot-microseconds.
#[derive(Debug, Clone, Copy, Default)]
struct SlotTime {
    busy: u64,
    all: u64,
}

impl BusyWindow {
    /// A window of `window_us` microseconds (at least 1 ms), starting at `now_us`.
    pub fn new(window_us: u64, now_us: u64) -> Self {
        Self { ring: Ring::new(window_us, now_us), since_us: now_us, busy: 0, slots: 0 }
    }

    /// Notes that from `now_us` on `busy` of `slots` slots are busy. Call it at each dispatch, each end of a batch and
    /// each change of the number of slots.
    pub fn set(&mut self, now_us: u64, busy: u32, slots: u32) {
        self.settle(now_us);
        self.slots = slots;
        self.busy = busy.min(slots);
    }

    /// Returns busy slot time ÷ slot time over the window, 0 to 1; 0 where there were no slots.
    pub fn fraction(&mut self, now_us: u64) -> f64 {
        self.settle(now_us);
        let (busy, all) = self.ring.buckets.iter().fold((0u64, 0u64), |(busy, all), bucket| {
            (busy.saturating_add(bucket.busy), all.saturating_add(bucket.all))
        });
        if all == 0 { 0.0 } else { busy as f64 / all as f64 }
    }

    /// Adds the time since the last change to the buckets.
    fn settle(&mut self, now_us: u64) {
        // Time before the window would be forgotten at once.
        self.since_us = self.since_us.max(now_us.saturating_sub(self.ring.bucket_us * BUCKETS as u64));
        while self.since_us < now_us {
            let bucket_end = (self.since_us / self.ring.bucket_us + 1).saturating_mul(self.ring.bucket_us);
            let until = bucket_end.min(now_us);
            let span = until - self.since_us;
            let (busy, slots) = (u64::from(self.busy), u64::from(self.slots));
            let bucket = self.ring.at(self.since_us);
            bucket.busy = bucket.busy.saturating_add(span.saturating_mul(busy));
            bucket.all = bucket.all.saturating_add(span.saturating_mul(slots));
            self.since_us = until;
        }
        self.ring.at(now_us);
    }
}

/// Share of requests that were answered within the objective, over a sliding window.
#[derive(Debug, Clone)]
pub struct AttainmentWindow {
    ring: Ring<Counts>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Counts {
    met: u64,
    all: u64,
}

impl AttainmentWindow {
    /// A window of `window_us` microseconds (at least 1 ms), starting at `now_us`.
    pub fn new(window_us: u64, now_us: u64) -> Self {
        Self { ring: Ring::new(window_us, now_us) }
    }

    /// Notes that a request was answered. `met`: correctly and within the objective; otherwise it was late, an error or
    /// rejected.
    pub fn record(&mut self, now_us: u64, met: bool) {
        let bucket = self.ring.at(now_us);
        bucket.all += 1;
        bucket.met += u64::from(met);
    }

    /// Returns met ÷ all over the window; `None` without a request.
    pub fn ratio(&mut self, now_us: u64) -> Option<f64> {
        self.ring.at(now_us);
        let (met, all) =
            self.ring.buckets.iter().fold((0, 0), |(met, all), bucket| (met + bucket.met, all + bucket.all));
        (all > 0).then(|| met as f64 / all as f64)
    }
}

/// Ring of buckets of equal length; the oldest one is cleared for the newest.
#[derive(Debug, Clone)]
pub(crate) struct Ring<T> {
    pub(crate) buckets: [T; BUCKETS],
    pub(crate) bucket_us: u64,
    /// Number of the newest bucket, counted from instant 0.
    pub(crate) newest: u64,
}

impl<T: Copy + Default> Ring<T> {
    pub(crate) fn new(window_us: u64, now_us: u64) -> Self {
        let bucket_us = window_us.max(1_000).div_ceil(BUCKETS as u64);
        Self { buckets: [T::default(); BUCKETS], bucket_us, newest: now_us / bucket_us }
    }

    /// Returns the bucket of an instant. An instant before the newest bucket gets the newest: instants never go back.
    pub(crate) fn at(&mut self, now_us: u64) -> &mut T {
        let number = (now_us / self.bucket_us).max(self.newest);
        let passed = (number - self.newest).min(BUCKETS as u64);
        for step in 1..=passed {
            self.buckets[((number - passed + step) % BUCKETS as u64) as usize] = T::default();
        }
        self.newest = number;
        &mut self.buckets[(number % BUCKETS as u64) as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000;

    #[test]
    fn the_busy_fraction_is_slot_time_over_the_window() {
        let mut window = BusyWindow::new(10 * SECOND, 0);
        window.set(0, 1, 2);
        window.set(5 * SECOND, 2, 2);
        let fraction = window.fraction(10 * SECOND);
        assert!((fraction - 0.75).abs() < 0.02, "{fraction}");
        // The idle time moves the busy time out of the window.
        window.set(10 * SECOND, 0, 2);
        assert!((window.fraction(15 * SECOND) - 0.5).abs() < 0.03);
        assert!(window.fraction(25 * SECOND) == 0.0);
    }

    #[test]
    fn without_slots_nothing_is_busy() {
        assert!(BusyWindow::new(SECOND, 7).fraction(9 * SECOND) == 0.0);
    }

    #[test]
    fn attainment_forgets_what_left_the_window() {
        let mut window = AttainmentWindow::new(30 * SECOND, 100 * SECOND);
        assert_eq!(window.ratio(100 * SECOND), None);
        for _ in 0..3 {
            window.record(101 * SECOND, true);
        }
        window.record(120 * SECOND, false);
        assert_eq!(window.ratio(121 * SECOND), Some(0.75));
        assert_eq!(window.ratio(140 * SECOND), Some(0.0));
        assert_eq!(window.ratio(1_000 * SECOND), None);
    }

    #[test]
    fn a_long_silence_costs_no_time() {
        let mut window = BusyWindow::new(SECOND, 0);
        window.set(0, 1, 1);
        assert!(window.fraction(u64::MAX / 2) > 0.99);
    }
}

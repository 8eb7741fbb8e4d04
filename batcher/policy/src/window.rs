//! Gauges over the last seconds, fed with instants.

/// Share of time that slots were busy, over a sliding window.
#[derive(Debug, Clone)]
pub struct BusyWindow {}

impl BusyWindow {
    /// A window of `window_us` microseconds (at least 1 ms), starting at `now_us`.
    pub fn new(window_us: u64, now_us: u64) -> Self {
        todo!()
    }

    /// From `now_us` on, `busy` of `slots` slots are busy. Call it at each dispatch, completion and change of membership.
    pub fn set(&mut self, now_us: u64, busy: u32, slots: u32) {
        todo!()
    }

    /// Busy slot-time ÷ slot-time over the window, 0 to 1; 0 where there were no slots.
    pub fn fraction(&mut self, now_us: u64) -> f64 {
        todo!()
    }
}

/// Share of requests answered within the objective, over a sliding window.
#[derive(Debug, Clone)]
pub struct AttainmentWindow {}

impl AttainmentWindow {
    /// A window of `window_us` microseconds (at least 1 ms), starting at `now_us`.
    pub fn new(window_us: u64, now_us: u64) -> Self {
        todo!()
    }

    /// One request has its answer: a correct one within the objective (`met`), or any other (late, error, rejected).
    pub fn record(&mut self, now_us: u64, met: bool) {
        todo!()
    }

    /// Met ÷ all over the window; `None` when there was none.
    pub fn ratio(&mut self, now_us: u64) -> Option<f64> {
        todo!()
    }
}

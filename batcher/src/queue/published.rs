//! The forecast that the owner of a queue publishes, and what other threads read from it: admission of a request, time to
//! retry, load.

use std::sync::Arc;

use arc_swap::ArcSwap;
use sluice_batch_policy::Forecast;

use crate::observe::orca::Load;
use crate::retry_after::RetryAfter;

/// Forecast that the owner published last; before the first, one without slots.
#[derive(Debug, Default)]
pub(super) struct PublishedForecast {
    forecast: ArcSwap<Forecast>,
}

impl PublishedForecast {
    /// Replaces the forecast.
    pub(super) fn publish(&self, forecast: Forecast) {
        self.forecast.store(Arc::new(forecast));
    }

    /// Returns the whole forecast.
    pub(super) fn get(&self) -> Arc<Forecast> {
        self.forecast.load_full()
    }

    /// Predicts when the rows that wait now will have been served, as the time after which to try again.
    pub(super) fn retry_after(&self, now_us: u64, queued_rows: u64) -> RetryAfter {
        RetryAfter::predicted(self.forecast.load().wait_us(now_us, queued_rows))
    }

    /// Returns how much there is to do while `queued_rows` rows wait.
    pub(super) fn load(&self, now_us: u64, queued_rows: u64) -> Load {
        let forecast = self.forecast.load();
        let wait_us = forecast.wait_us(now_us, queued_rows);
        Load {
            slots: forecast.slots,
            busy_slots: forecast.slots.saturating_sub(forecast.free_slots),
            queued_rows,
            queued_batches: queued_rows as f64 / f64::from(forecast.limit_rows.max(1)),
            predicted_wait_seconds: wait_us.unwrap_or(0) as f64 / 1e6,
        }
    }

    /// Returns whether no model server has a warm slot for the model.
    pub(super) fn is_cold(&self) -> bool {
        self.forecast.load().slots == 0
    }

    /// Returns how many model servers report that they do not have the model; 0 where one has it.
    pub(super) fn absent_at(&self) -> usize {
        self.forecast.load().absent_at
    }
}

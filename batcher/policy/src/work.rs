//! Chooses the model server that gets the next batch.

/// Work that a model server has already.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Load {
    /// Expected time until all batches that run there have ended, per slot, microseconds.
    pub remaining_us: u64,
    /// Recent service times of the server ÷ the times that the curve predicts; 1 where nothing is known.
    pub pace: f64,
    /// Batches and requests in flight.
    pub inflight: usize,
    /// Instant or number of the server's last batch, in any unit that grows.
    pub last_used: u64,
}

/// Loads that differ by less than this part count as equal: predictions are not more accurate.
const EQUAL: f64 = 0.25;

impl Load {
    /// Predicts the time, from now, until a batch that takes `batch_us` on an average server would end, microseconds.
    fn work_us(&self, batch_us: u64) -> f64 {
        (self.remaining_us as f64 + batch_us.max(1) as f64) * self.pace
    }
}

/// Returns the server with the least work in flight, this batch included; among about equal ones the server with the
/// fewest batches and requests in flight, then the one whose last batch is the oldest (so that idle servers take
/// turns). `None` without a server.
pub fn least_work<K: Copy>(loads: &[(K, Load)], batch_us: u64) -> Option<K> {
    let least = loads.iter().map(|(_, load)| load.work_us(batch_us)).min_by(f64::total_cmp)?;
    let about_least = loads.iter().filter(|(_, load)| load.work_us(batch_us) <= least * (1.0 + EQUAL));
    about_least.min_by_key(|(_, load)| (load.inflight, load.last_used)).map(|(key, _)| *key)
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDLE: Load = Load { remaining_us: 0, pace: 1.0, inflight: 0, last_used: 0 };

    #[test]
    fn idle_ones_take_turns() {
        let loads = [('a', Load { last_used: 7, ..IDLE }), ('b', Load { last_used: 3, ..IDLE })];
        assert_eq!(least_work(&loads, 1000), Some('b'));
        assert_eq!(least_work::<char>(&[], 1000), None);
    }

    #[test]
    fn a_slow_one_gets_work_only_when_the_fast_one_has_more() {
        let slow = ('s', Load { pace: 4.0, ..IDLE });
        let fast = |remaining_us| ('f', Load { remaining_us, pace: 0.5, inflight: 1, ..IDLE });
        assert_eq!(least_work(&[slow, fast(1000)], 1000), Some('f'));
        assert_eq!(least_work(&[slow, fast(9000)], 1000), Some('s'));
    }

    #[test]
    fn about_equal_work_goes_by_what_is_in_flight() {
        let one = ('1', Load { remaining_us: 100, inflight: 1, ..IDLE });
        let three = ('3', Load { remaining_us: 0, inflight: 3, ..IDLE });
        assert_eq!(least_work(&[three, one], 1000), Some('1'));
    }

    #[test]
    fn without_predictions_the_fewest_in_flight_win() {
        let one = ('1', Load { inflight: 1, ..IDLE });
        let none = ('0', Load { inflight: 0, last_used: 9, ..IDLE });
        assert_eq!(least_work(&[one, none], 0), Some('0'));
    }
}

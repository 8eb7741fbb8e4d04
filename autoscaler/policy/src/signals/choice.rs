//! Chooses which reading of a batcher counts: that of its own page, or that of the second source.
//!
//! The own page always wins, because it is of this moment. The second source is asked only for batchers whose page
//! could not be read, and its reading counts only while it is recent and a number. Where neither has a reading nothing
//! is recorded, and the batcher's signals become stale.

use super::reading::Reading;

/// Reading of the second source, with its time.
#[derive(Debug, Clone, PartialEq)]
pub struct DatedReading {
    /// When the second source read the batcher, milliseconds since 1970.
    pub at_ms: u64,
    /// Reading of the batcher.
    pub reading: Reading,
}

/// Reading that counts.
#[derive(Debug, Clone, PartialEq)]
pub enum Choice {
    /// Reading of the batcher's own page.
    Own(Reading),
    /// Reading of the second source.
    Second(DatedReading),
    /// No reading, for this reason.
    Nothing(&'static str),
}

/// Chooses the reading of one batcher at `now_ms`.
///
/// `own` is `None` where its page could not be read, `second` where there is no second source or it has no reading of
/// this batcher. A reading older than `stale_ms` does not count.
pub fn choose(own: Option<Reading>, second: Option<DatedReading>, now_ms: u64, stale_ms: u64) -> Choice {
    if let Some(reading) = own {
        return Choice::Own(reading);
    }
    let Some(mut dated) = second else {
        return Choice::Nothing("neither its page nor the second source could be read");
    };
    if dated.at_ms > now_ms.saturating_add(stale_ms) {
        return Choice::Nothing("the second source gives it a time that is yet to come");
    }
    // Clocks of two machines differ a little: a reading of the near future is of now.
    dated.at_ms = dated.at_ms.min(now_ms);
    if now_ms - dated.at_ms > stale_ms {
        return Choice::Nothing("what the second source knows is too old");
    }
    match dated.reading.demand_rows {
        Some(rows) if rows.is_finite() => Choice::Second(dated),
        Some(_) => Choice::Nothing("its demand in the second source is not a number"),
        None => Choice::Nothing("the second source does not know its demand"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: u64 = 100_000;
    const STALE_MS: u64 = 15_000;

    fn reading(rows: Option<f64>) -> Reading {
        Reading { demand_rows: rows, ..Reading::default() }
    }

    fn second(at_ms: u64, rows: Option<f64>) -> Option<DatedReading> {
        Some(DatedReading { at_ms, reading: reading(rows) })
    }

    #[test]
    fn its_own_page_wins() {
        let own = reading(Some(1.0));
        let chosen = choose(Some(own.clone()), second(NOW_MS, Some(2.0)), NOW_MS, STALE_MS);
        assert_eq!(chosen, Choice::Own(own));
    }

    #[test]
    fn without_its_page_a_recent_reading_of_the_second_source_counts() {
        let Choice::Second(dated) = choose(None, second(90_000, Some(2.0)), NOW_MS, STALE_MS) else {
            panic!("not chosen")
        };
        assert_eq!((dated.at_ms, dated.reading.demand_rows), (90_000, Some(2.0)));
    }

    #[test]
    fn a_clock_that_is_ahead_makes_a_reading_no_newer_than_now() {
        let Choice::Second(dated) = choose(None, second(NOW_MS + 900, Some(2.0)), NOW_MS, STALE_MS) else {
            panic!("not chosen")
        };
        assert_eq!(dated.at_ms, NOW_MS);
    }

    #[test]
    fn nothing_old_missing_or_not_a_number_is_ever_a_reading() {
        for second in [
            None,
            second(NOW_MS - STALE_MS - 1, Some(2.0)),
            second(NOW_MS + STALE_MS + 1, Some(2.0)),
            second(u64::MAX, Some(2.0)),
            second(NOW_MS, None),
            second(NOW_MS, Some(f64::NAN)),
            second(NOW_MS, Some(f64::INFINITY)),
        ] {
            let chosen = choose(None, second, NOW_MS, STALE_MS);
            assert!(matches!(chosen, Choice::Nothing(_)), "{chosen:?}");
        }
    }
}

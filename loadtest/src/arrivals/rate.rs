//! A request rate over time, as a list of linear pieces.

/// A piece of a rate curve: the rate goes linearly from one value to another.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Segment {
    /// Length in seconds.
    pub duration_s: f64,
    /// Requests per second at its start.
    pub from_rps: f64,
    /// Requests per second at its end.
    pub to_rps: f64,
}

impl Segment {
    /// A piece of one rate.
    pub fn flat(rate_rps: f64, duration_s: f64) -> Self {
        Self { duration_s, from_rps: rate_rps, to_rps: rate_rps }
    }

    /// Expected arrivals: the integral of the rate.
    pub fn arrivals(&self) -> f64 {
        (self.from_rps + self.to_rps) / 2.0 * self.duration_s
    }

    /// When, in seconds from its start, the integral of the rate reaches `arrivals`.
    ///
    /// With rate a + k·t the integral a·t + k·t²/2 = m is solved as t = 2m / (a + √(a² + 2km)), the form that
    /// also holds for k = 0 and a = 0.
    pub fn time_of(&self, arrivals: f64) -> f64 {
        let slope = (self.to_rps - self.from_rps) / self.duration_s;
        let root = (self.from_rps * self.from_rps + 2.0 * slope * arrivals).max(0.0).sqrt();
        let denominator = self.from_rps + root;
        if denominator <= 0.0 { 0.0 } else { (2.0 * arrivals / denominator).min(self.duration_s) }
    }
}

/// Why a rate curve is refused.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum RateError {
    /// A piece without a positive, finite length.
    #[error("piece {index} of the rate lasts {duration_s} s: it must be longer than 0")]
    Duration {
        /// Which, from 0.
        index: usize,
        /// Its length.
        duration_s: f64,
    },
    /// A rate that is negative or no number.
    #[error("piece {index} of the rate has {rate_rps} requests/s: it must be 0 or more")]
    Rate {
        /// Which, from 0.
        index: usize,
        /// The rate.
        rate_rps: f64,
    },
    /// Nothing would ever be sent.
    #[error("the rate is 0 throughout: nothing would be sent")]
    Nothing,
}

/// A rate over time; at least one arrival is expected somewhere.
#[derive(Debug, Clone, PartialEq)]
pub struct RateCurve {
    segments: Vec<Segment>,
}

impl RateCurve {
    /// Checks and takes the pieces, one after the other from time 0.
    ///
    /// # Errors
    /// Names the piece that is wrong.
    pub fn new(segments: Vec<Segment>) -> Result<Self, RateError> {
        for (index, segment) in segments.iter().enumerate() {
            if !(segment.duration_s.is_finite() && segment.duration_s > 0.0) {
                return Err(RateError::Duration { index, duration_s: segment.duration_s });
            }
            for rate_rps in [segment.from_rps, segment.to_rps] {
                if !(rate_rps.is_finite() && rate_rps >= 0.0) {
                    return Err(RateError::Rate { index, rate_rps });
                }
            }
        }
        if segments.iter().all(|segment| segment.arrivals() == 0.0) {
            return Err(RateError::Nothing);
        }
        Ok(Self { segments })
    }

    /// The pieces.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Length in seconds.
    pub fn duration_s(&self) -> f64 {
        self.segments.iter().map(|segment| segment.duration_s).sum()
    }

    /// Expected arrivals over the whole length.
    pub fn arrivals(&self) -> f64 {
        self.segments.iter().map(Segment::arrivals).sum()
    }

    /// The rate at a time, in requests per second; 0 after the end.
    pub fn rate_at(&self, at_s: f64) -> f64 {
        let mut start_s = 0.0;
        for segment in &self.segments {
            if at_s < start_s + segment.duration_s {
                let part = (at_s - start_s).max(0.0) / segment.duration_s;
                return segment.from_rps + (segment.to_rps - segment.from_rps) * part;
            }
            start_s += segment.duration_s;
        }
        0.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wrong_pieces_are_named() {
        let error = |segment| RateCurve::new(vec![Segment::flat(1.0, 1.0), segment]).unwrap_err();
        assert!(error(Segment::flat(1.0, 0.0)).to_string().contains("piece 1"));
        assert!(error(Segment::flat(-1.0, 1.0)).to_string().contains("-1 requests/s"));
        assert_eq!(RateCurve::new(vec![Segment::flat(0.0, 5.0)]), Err(RateError::Nothing));
        assert_eq!(RateCurve::new(vec![]), Err(RateError::Nothing));
    }
}

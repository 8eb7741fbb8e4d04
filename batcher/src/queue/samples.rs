//! Requests of live traffic, one of each shape: what a model server is warmed with when its metadata says too little.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use sluice_protocol::InferRequest;

/// Shapes that are kept per model; a further one takes the place of the one that was seen longest ago.
const SHAPES: usize = 4;
/// Larger bodies are not kept.
const MAX_BYTES: usize = 1 << 20;
/// A request is looked at so often at most: shapes do not change with every batch.
const INTERVAL_US: u64 = 100_000;

/// The samples of one model. At most 4 shapes of at most 1 MiB.
#[derive(Debug, Default)]
pub struct Samples {
    next_us: AtomicU64,
    kept: Mutex<Vec<Sample>>,
}

#[derive(Debug)]
struct Sample {
    request: InferRequest,
    seen_us: u64,
}

impl Samples {
    /// Keeps a request that the model server has answered well; tells whether it is the first of its shape, or has
    /// fewer rows than the one that was kept: fewer rows can be repeated to any batch.
    pub fn offer(&self, request: &InferRequest, now_us: u64) -> bool {
        if now_us < self.next_us.load(Ordering::Relaxed) || request.body.len() > MAX_BYTES {
            return false;
        }
        self.next_us.store(now_us.saturating_add(INTERVAL_US), Ordering::Relaxed);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(sample) = kept.iter_mut().find(|sample| sample.request.key == request.key) {
            sample.seen_us = now_us;
            let fewer = request.rows < sample.request.rows;
            if fewer {
                sample.request = nameless(request);
            }
            return fewer;
        }
        if kept.len() == SHAPES
            && let Some((oldest, _)) = kept.iter().enumerate().min_by_key(|(_, sample)| sample.seen_us)
        {
            kept.swap_remove(oldest);
        }
        kept.push(Sample { request: nameless(request), seen_us: now_us });
        true
    }

    /// All that are kept.
    pub fn all(&self) -> Vec<InferRequest> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().map(|sample| sample.request.clone()).collect()
    }
}

/// Without the client's id, which is nobody else's.
fn nameless(request: &InferRequest) -> InferRequest {
    InferRequest { id: None, is_verbatim: false, ..request.clone() }
}

#[cfg(test)]
mod tests {
    use sluice_protocol::{Limits, Target, WireFormat, merge, parse_json};

    use super::*;

    fn request(rows: usize, width: usize) -> InferRequest {
        let target = Target { model: "m".into(), version: None };
        let data = vec![0; rows * width];
        let body = serde_json::json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [rows, width], "data": data}]});
        parse_json(&target, body.to_string().into(), &Limits::default()).unwrap()
    }

    #[test]
    fn one_request_of_each_shape_is_kept_the_one_with_the_fewest_rows() {
        let samples = Samples::default();
        assert!(samples.offer(&request(3, 8), 0));
        assert!(samples.offer(&request(2, 8), INTERVAL_US));
        assert!(!samples.offer(&request(5, 8), 2 * INTERVAL_US));
        assert!(samples.offer(&request(1, 16), 3 * INTERVAL_US));
        let rows: Vec<usize> = samples.all().iter().map(|request| request.rows).collect();
        assert_eq!(rows, [2, 1]);
    }

    #[test]
    fn the_shape_that_was_seen_longest_ago_makes_room() {
        let samples = Samples::default();
        for step in 0..6 {
            samples.offer(&request(1, 1 + step as usize), step * INTERVAL_US);
        }
        let mut widths: Vec<u64> = samples.all().iter().map(|request| request.inputs[0].shape[1]).collect();
        widths.sort_unstable();
        assert_eq!(widths, [3, 4, 5, 6]);
    }

    #[test]
    fn samples_are_taken_seldom_and_never_large() {
        let samples = Samples::default();
        assert!(samples.offer(&request(1, 8), 0));
        assert!(!samples.offer(&request(1, 9), INTERVAL_US - 1));
        assert!(!samples.offer(&request(1, MAX_BYTES), 2 * INTERVAL_US));
    }

    #[test]
    fn no_clients_id_goes_out_again() {
        let target = Target { model: "m".into(), version: None };
        let body = r#"{"id":"hers","inputs":[{"name":"x","datatype":"FP32","shape":[1,1],"data":[0]}]}"#;
        let samples = Samples::default();
        samples.offer(&parse_json(&target, body.into(), &Limits::default()).unwrap(), 0);
        let sent = merge(&[&samples.all()[0]], WireFormat::Json).unwrap().chunks.concat();
        assert!(!String::from_utf8(sent).unwrap().contains("hers"));
    }
}

//! Measures how long a target's pods take until they take traffic, from those that were seen starting (pure).

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;

use super::pods;

/// Weight of the newest measurement.
const WEIGHT: f64 = 0.3;
/// Longest time from creation to placement of a pod that is measured, milliseconds. One that was placed later waited for a
/// slice, which would make a full cluster look like a slow model.
const PLACED_WITHIN_MS: u64 = 10_000;

/// Smoothed start-up time of one target.
#[derive(Debug, Default)]
pub(super) struct Startup {
    starting: BTreeSet<String>,
    smoothed_ms: Option<f64>,
}

impl Startup {
    /// Adds the target's present pods.
    pub(super) fn observe(&mut self, pods: &[&Pod]) {
        let mut starting = BTreeSet::new();
        for pod in pods.iter().filter(|pod| pods::is_live(pod)) {
            let Some(uid) = pod.metadata.uid.clone() else { continue };
            if !pods::is_ready(pod) {
                starting.insert(uid);
            } else if self.starting.contains(&uid)
                && let Some(ms) = took_ms(pod)
            {
                #[expect(clippy::cast_precision_loss, reason = "milliseconds of a start")]
                let ms = ms as f64;
                self.smoothed_ms =
                    Some(self.smoothed_ms.map_or(ms, |before| before + WEIGHT * (ms - before)));
            }
        }
        self.starting = starting;
    }

    /// Smoothed time, milliseconds; `None` before the first measurement.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "measured, so >= 0")]
    pub(super) fn smoothed_ms(&self) -> Option<u64> {
        self.smoothed_ms.map(|ms| ms.round() as u64)
    }
}

/// From when the pod was made, or placed where that took long, until it was ready.
fn took_ms(pod: &Pod) -> Option<u64> {
    let made_ms = pods::millis(pod.metadata.creation_timestamp.as_ref()?.0);
    let placed_ms = pods::condition(pod, "PodScheduled")?;
    let ready_ms = pods::condition(pod, "Ready")?;
    let begun_ms = if placed_ms.saturating_sub(made_ms) > PLACED_WITHIN_MS { placed_ms } else { made_ms };
    ready_ms.checked_sub(begun_ms)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(placed: u32, ready: Option<u32>) -> Pod {
        let at = |second: u32| format!("2026-01-01T00:00:{second:02}Z");
        let mut conditions =
            vec![json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": at(placed)})];
        if let Some(ready) = ready {
            conditions.push(json!({"type": "Ready", "status": "True", "lastTransitionTime": at(ready)}));
        }
        serde_json::from_value(json!({
            "metadata": {"uid": "a", "creationTimestamp": at(1)}, "status": {"conditions": conditions},
        }))
        .unwrap()
    }

    fn measured(placed: u32, ready: u32) -> Option<u64> {
        let mut startup = Startup::default();
        startup.observe(&[&pod(placed, None)]);
        startup.observe(&[&pod(placed, Some(ready))]);
        startup.observe(&[&pod(placed, Some(ready))]);
        startup.smoothed_ms()
    }

    #[test]
    fn a_start_is_measured_once_from_when_the_pod_was_made() {
        assert_eq!(measured(2, 31), Some(30_000));
    }

    #[test]
    fn waiting_for_a_slice_is_no_part_of_it() {
        assert_eq!(measured(21, 31), Some(10_000));
    }

    #[test]
    fn who_was_ready_from_the_first_look_on_tells_nothing() {
        let mut startup = Startup::default();
        startup.observe(&[&pod(2, Some(31))]);
        assert_eq!(startup.smoothed_ms(), None);
    }
}

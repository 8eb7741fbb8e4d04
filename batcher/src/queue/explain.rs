//! How a model stands, in words, for `/explain`.

use super::ModelHandle;

/// Describes how busy the model servers of a model are, how fast they are, and how large its batches may be.
pub fn describe(handle: &ModelHandle) -> String {
    let forecast = handle.forecast();
    let load = handle.load();
    let curve = match &forecast.curve {
        None => "its speed is not known yet".to_owned(),
        Some(curve) => format!(
            "a batch of n rows takes {:.3} ms + n · {:.3} ms (from {} batches)",
            curve.alpha_seconds * 1e3,
            curve.beta_seconds * 1e3,
            curve.samples
        ),
    };
    let wait = match load.slots {
        0 => "no model server has it warm: requests are held".to_owned(),
        slots => format!(
            "{} of {slots} slot(s) busy; {} row(s) wait; a request that arrives now would wait {:.1} ms",
            load.busy_slots,
            load.queued_rows,
            load.predicted_wait_seconds * 1e3
        ),
    };
    format!(
        "model {}: {wait}; {curve}; at most {} rows a batch for an objective of {} ms",
        handle.model,
        forecast.limit_rows,
        handle.objective_ms()
    )
}

//! Requests of live traffic that are recorded, so that warm-up can repeat them after a restart.

use std::sync::Arc;

use sluice_protocol::InferRequest;

use super::ModelHandle;
use crate::settings::Warmup;
use crate::upstream::recorded;

/// Records a request that was answered well, where warm-up is to repeat such.
pub(super) fn record(handle: &ModelHandle, request: &InferRequest) {
    let settings = handle.settings.now();
    if settings.warm_up.warmup != Warmup::Recorded || !handle.samples.offer(request, handle.clock.now_us()) {
        return;
    }
    let Some(folder) = settings.warm_up.warmup_bodies.clone() else { return };
    let (model, request) = (Arc::clone(&handle.model), request.clone());
    tokio::task::spawn_blocking(move || {
        if let Err(trouble) = recorded::write(&folder, &model, &request) {
            tracing::warn!(%model, trouble, "A request could not be recorded for warm-up.");
        }
    });
}

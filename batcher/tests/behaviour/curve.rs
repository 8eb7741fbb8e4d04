//! The service curve is learned, and follows the model server.

use std::sync::atomic::Ordering;

use crate::client::infer_json;
use crate::model::{Behaviour, Model};
use crate::start::{settings, sidecar, until};

#[tokio::test]
async fn the_exported_curve_follows_when_the_model_changes_its_speed() {
    let name = "speed";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let label = format!("model=\"{name}\"");
    for alpha_ms in [80, 10, 120] {
        model.behaviour().alpha_us.store(alpha_ms * 1000, Ordering::SeqCst);
        // Noise only adds to times, so the bounds are loose above and tight below.
        let low = alpha_ms as f64 / 1e3 * 0.9;
        let high = low * 1.9 + 0.02;
        until(&format!("alpha is about {alpha_ms} ms"), async || {
            infer_json(batcher.front, name, &[1]).await;
            let alpha = batcher.metric("sluice_batcher_curve_alpha_seconds", &label).await;
            let beta = batcher.metric("sluice_batcher_curve_beta_seconds", &label).await;
            (low..high).contains(&(alpha + beta))
        })
        .await;
    }
    assert!(batcher.metric("sluice_batcher_curve_samples", &label).await > 0.0);
}

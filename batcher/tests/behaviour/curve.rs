//! The service curve is learned, and follows the model server.

use std::sync::atomic::Ordering;

use serde_json::json;

use crate::client::{infer_json, post};
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

#[tokio::test]
async fn rows_of_different_shapes_have_curves_of_their_own() {
    let name = "shapes";
    let model = Model::start(name, Behaviour::default()).await;
    // 1 ms and 1 ms per element: a row of 64 takes more than ten times as long as one of 1.
    model.behaviour().beta_us.store(1000, Ordering::SeqCst);
    let batcher = sidecar(&model, settings(name)).await;
    for _ in 0..5 {
        for width in [1, 64] {
            let body = json!({"inputs": [
                {"name": "id", "datatype": "INT64", "shape": [1, width], "data": vec![1; width]}]});
            let got = post(batcher.front, &format!("/v2/models/{name}/infer"), body.to_string()).await;
            assert_eq!(got.output("twice"), vec![2; width]);
        }
    }
    let seconds = async |class: &str| {
        let labels = format!("model=\"{name}\",shape_class=\"{class}\"");
        assert_eq!(batcher.metric("sluice_batcher_class_curve_samples", &labels).await, 5.0);
        batcher.metric("sluice_batcher_class_curve_alpha_seconds", &labels).await
            + batcher.metric("sluice_batcher_class_curve_beta_seconds", &labels).await
    };
    let long = seconds("64").await;
    assert!(long > 0.06, "it takes at least 65 ms: {long}");
    let short = seconds("1").await;
    assert!(short < long, "{short} {long}");
}

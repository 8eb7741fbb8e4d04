//! What Triton's model configuration says about batches, over REST and over gRPC.

use serde_json::{Value, json};
use sluice_batcher::settings::OwnHeaders;
use sluice_batcher::with_settings;

use crate::client::{get, infer_json, post};
use crate::model::{Behaviour, Model};
use crate::start::{Batcher, settings, sidecar, start, until};

fn says(config: &Value) -> Behaviour {
    Behaviour { config: (200, config.to_string()), ..Behaviour::default() }
}

async fn model_view(batcher: &Batcher) -> Value {
    batcher.upstreams().await["upstreams"][0]["models"][0].clone()
}

/// Sizes of the warm-up calls, largest first.
fn warmed(model: &Model) -> Vec<usize> {
    let mut sizes: Vec<usize> = model.calls().iter().map(|call| call.ids.len()).collect();
    sizes.dedup();
    sizes
}

#[tokio::test]
async fn the_configured_batch_size_caps_batches_whatever_the_shapes_say() {
    for (name, grpc_only) in [("capped-rest", false), ("capped-grpc", true)] {
        let config = json!({"max_batch_size": 3, "dynamic_batching": {"preferred_batch_size": [2]},
            "instance_group": [{"count": 2}]});
        let model = Model::start(name, Behaviour { grpc_only, shape: [5, 1], ..says(&config) }).await;
        let batcher = sidecar(&model, settings(name)).await;
        assert_eq!(warmed(&model), [3, 2, 1]);
        let form = if grpc_only { "grpc" } else { "binary" };
        assert_eq!(
            model_view(&batcher).await,
            json!({"name": name, "form": form, "maxBatchRows": 3, "preferredBatchRows": [2], "instances": 2})
        );
    }
}

#[tokio::test]
async fn a_model_without_a_batch_dimension_and_a_decoupled_one_are_never_merged() {
    for (name, config) in [
        ("no-dimension", json!({"max_batch_size": 0})),
        ("decoupled", json!({"max_batch_size": 8, "model_transaction_policy": {"decoupled": true}})),
    ] {
        let model = Model::start(name, says(&config)).await;
        let batcher = sidecar(&model, settings(name)).await;
        let view = model_view(&batcher).await;
        assert_eq!(view["maxBatchRows"], 1);
        assert_eq!(view["decoupled"] == true, name == "decoupled");
        let front = batcher.front;
        model.close_gate();
        let requests: Vec<_> =
            (1..=3).map(|id| tokio::spawn(async move { infer_json(front, name, &[id]).await })).collect();
        let label = format!("model=\"{name}\"");
        until("two wait behind the first", async || {
            batcher.metric("sluice_batcher_queue_rows", &label).await == 2.0
        })
        .await;
        model.open_gate();
        for (id, request) in (1..).zip(requests) {
            assert_eq!(request.await.unwrap().output("twice"), [id * 2]);
        }
        assert!(model.client_calls().iter().all(|call| call.ids.len() == 1));
    }
}

#[tokio::test]
async fn without_a_readable_configuration_the_metadata_alone_counts() {
    for (name, config) in [
        ("config-garbage", (200, "<html>catch-all</html>".to_owned())),
        ("config-lies", (200, json!({"max_batch_size": -4}).to_string())),
        ("config-denied", (403, json!({"max_batch_size": 2}).to_string())),
        ("config-silent", (200, "{}".to_owned())),
    ] {
        let model = Model::start(name, Behaviour { config, ..Behaviour::default() }).await;
        let batcher = sidecar(&model, settings(name)).await;
        assert_eq!(model_view(&batcher).await["maxBatchRows"], 8, "{name}");
    }
}

#[tokio::test]
async fn own_headers_go_with_questions_and_batches_over_rest_and_grpc() {
    for (name, grpc_only) in [("token-rest", false), ("token-grpc", true)] {
        let token = Some(("x-token", "s3cret"));
        let model = Model::start(name, Behaviour { grpc_only, token, ..Behaviour::default() }).await;
        let headers = [("x-token".to_owned(), "s3cret".to_owned())].into();
        let with_token =
            with_settings!(settings(name), servers.upstream_headers = OwnHeaders::new(headers).unwrap());
        let batcher = sidecar(&model, with_token).await;
        assert_eq!(infer_json(batcher.front, name, &[4]).await.output("twice"), [8]);
        assert_eq!(get(batcher.admin, "/upstream-livez?path=/v2/health/ready").await.status, 200);
        let upstream = Some(model.upstream());
        let without = with_settings!(
            settings(name),
            servers.upstream = upstream,
            holding.hold_ms = 100,
            batching.objective_ms = 100
        );
        let without = start(without).await;
        assert_eq!(infer_json(without.front, name, &[4]).await.status, 503);
        if !grpc_only {
            // As it came: with the client's own headers, and the server's own answer to them.
            let odd = post(batcher.front, &format!("/v2/models/{name}/infer"), "odd").await;
            assert_eq!(odd.status, 401);
        }
    }
}

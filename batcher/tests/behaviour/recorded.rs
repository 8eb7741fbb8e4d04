//! Warm-up with requests recorded from live traffic.

use sluice_batcher::settings::{Batching, Warmup};
use sluice_batcher::with_settings;

use crate::client::{json_body, post};
use crate::model::{Behaviour, Model};
use crate::start::{Batcher, settings, sidecar, until};

/// With a parameter, so that zeros of the metadata are not of its kind.
async fn infer_with_mode(batcher: &Batcher, model: &str, id: i64) {
    let body = json_body(&[id]).replacen('{', r#"{"parameters":{"mode":"exact"},"#, 1);
    let got = post(batcher.front, &format!("/v2/models/{model}/infer"), body).await;
    assert_eq!(got.output("twice"), [2 * id]);
}

/// Sizes of the calls with this id alone, in one run of the model server.
fn sizes(model: &Model, epoch: usize, id: i64) -> Vec<usize> {
    let calls = model.calls();
    let of_it = calls.iter().filter(|call| call.epoch == epoch && call.ids.iter().all(|&other| other == id));
    let mut sizes: Vec<usize> = of_it.map(|call| call.ids.len()).collect();
    sizes.sort_unstable();
    sizes.dedup();
    sizes
}

#[tokio::test]
async fn a_new_model_server_is_warmed_with_the_shapes_of_live_traffic_in_every_size() {
    let name = "lively";
    let mut model = Model::start(name, Behaviour::default()).await;
    let recorded =
        with_settings!(settings(name), warm_up.warmup = Warmup::Recorded, batching.max_batch_rows = 4);
    let batcher = sidecar(&model, recorded).await;
    infer_with_mode(&batcher, name, 7).await;
    assert_eq!(sizes(&model, 1, 7), [1]);
    model.kill();
    model.restart().await;
    until("the second epoch is open", async || {
        batcher.upstreams().await["upstreams"][0]["epoch"].as_u64() >= Some(2)
            && batcher.upstreams().await["upstreams"][0]["state"] == "ready"
    })
    .await;
    assert_eq!(sizes(&model, 2, 7), [1, 2, 3, 4], "beside zeros");
    assert_eq!(sizes(&model, 2, 0), [1, 2, 3, 4]);
}

#[tokio::test]
async fn another_process_is_warmed_with_what_this_one_recorded() {
    let name = "inherited";
    let folder = tempfile::tempdir().unwrap();
    let model = Model::start(name, Behaviour::default()).await;
    let recorded = || {
        with_settings!(
            settings(name),
            warm_up.warmup = Warmup::Recorded,
            warm_up.warmup_bodies = Some(folder.path().to_owned()),
            batching.max_batch_rows = 2
        )
    };
    let first = sidecar(&model, recorded()).await;
    infer_with_mode(&first, name, 9).await;
    until("the request is in the folder", async || {
        std::fs::read_dir(folder.path())
            .unwrap()
            .any(|file| file.unwrap().file_name().to_string_lossy().ends_with(".recorded"))
    })
    .await;
    let second = Model::start(name, Behaviour::default()).await;
    let _other = sidecar(&second, recorded()).await;
    assert_eq!(sizes(&second, 1, 9), [1, 2]);
    let demand = first.metric("sluice_batcher_demand_rows_total", &format!("model=\"{name}\"")).await;
    assert_eq!(demand, 1.0, "warm-up is no demand");
}

#[tokio::test]
async fn v1_requests_warm_the_v1_path_and_are_not_recorded_as_v2() {
    let name = "lively-v1";
    let folder = tempfile::tempdir().unwrap();
    let mut model = Model::start(name, Behaviour { v1: true, ..Behaviour::default() }).await;
    let recorded = with_settings!(
        settings(name),
        warm_up.warmup = Warmup::Recorded,
        warm_up.warmup_bodies = Some(folder.path().to_owned()),
        batching.batching = Batching::On,
        batching.max_batch_rows = 2
    );
    // The metadata names no inputs: before there is traffic, the folder alone says how to warm it.
    for rows in [1, 2] {
        let body = json_body(&vec![0; rows]);
        std::fs::write(folder.path().join(format!("{name}.{rows}.json")), body).unwrap();
    }
    let batcher = sidecar(&model, recorded).await;
    let predict = format!("/v1/models/{name}:predict");
    let got = post(batcher.front, &predict, r#"{"instances":[7]}"#).await;
    assert_eq!(got.text(), r#"{"predictions":[14]}"#);
    model.kill();
    model.restart().await;
    until("the second epoch is open", async || {
        batcher.upstreams().await["upstreams"][0]["epoch"].as_u64() >= Some(2)
            && batcher.upstreams().await["upstreams"][0]["state"] == "ready"
    })
    .await;
    assert_eq!(sizes(&model, 2, 7), [1, 2]);
    assert!(
        model.calls().iter().all(|call| (call.form == "v1") == (call.ids[0] == 7)),
        "{:?}",
        model.calls()
    );
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2, "no file beside the two");
}

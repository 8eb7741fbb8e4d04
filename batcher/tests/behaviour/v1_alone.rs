//! A model server that has only V1 paths.

use sluice_batcher::with_settings;

use crate::client::post;
use crate::model::{Behaviour, Model};
use crate::start::{settings, sidecar, until};

#[tokio::test]
async fn a_server_of_v1_alone_is_found_out_warmed_from_files_and_batched() {
    let name = "v1-alone";
    let dir = tempfile::tempdir().unwrap();
    for rows in [1, 2, 4] {
        let body = serde_json::json!({ "instances": vec![0; rows] }).to_string();
        std::fs::write(dir.path().join(format!("{name}.{rows}.v1.json")), body).unwrap();
    }
    let behaviour = Behaviour { v1: true, v1_alone: true, ..Behaviour::default() };
    let model = Model::start(name, behaviour).await;
    let with_bodies = with_settings!(
        settings(name),
        warm_up.warmup_bodies = Some(dir.path().to_owned()),
        batching.max_batch_rows = 4,
        batching.allowed_batch_rows = vec![1, 2, 4]
    );
    let batcher = sidecar(&model, with_bodies).await;
    let mut warmed: Vec<_> = model.calls().iter().map(|call| call.ids.len()).collect();
    warmed.dedup();
    assert_eq!(warmed, [4, 2, 1]);
    let view = batcher.upstreams().await["upstreams"][0]["models"][0].clone();
    assert_eq!((&view["form"], &view["maxBatchRows"]), (&"v1".into(), &4.into()));

    let (front, path) = (batcher.front, format!("/v1/models/{name}:predict"));
    model.close_gate();
    let ask = |id: i64| {
        let path = path.clone();
        tokio::spawn(async move { post(front, &path, format!("{{\"instances\":[{id}]}}")).await })
    };
    let first = ask(9);
    until("one is at the model", async || model.at_gate() == 1).await;
    let others = [ask(1), ask(2)];
    let label = format!("model=\"{name}\"");
    until("two wait", async || batcher.metric("sluice_batcher_queue_rows", &label).await == 2.0).await;
    model.open_gate();
    assert_eq!(first.await.unwrap().text(), "{\"predictions\":[18]}");
    for (id, other) in (1..).zip(others) {
        assert_eq!(other.await.unwrap().text(), format!("{{\"predictions\":[{}]}}", id * 2));
    }
    assert_eq!(model.client_calls().last().unwrap().ids.len(), 2, "both in one call");
    let v2 = post(front, &format!("/v2/models/{name}/infer"), "{}").await;
    assert_eq!((v2.status, v2.text().as_str()), (404, "no V2 here"));
}

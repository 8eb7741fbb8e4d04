//! When a model server counts as ready: the models that its barrier waits for, and what is reported while it is closed.

use sluice_batcher::settings::Settings;
use sluice_batcher::with_settings;

use crate::client::{get, infer_json};
use crate::model::{Behaviour, Call, Model};
use crate::start::{Batcher, settings, sidecar, start, until};

async fn until_second_epoch_is_open(batcher: &Batcher) {
    until("the second epoch is open", async || {
        let upstream = batcher.upstreams().await["upstreams"][0].clone();
        upstream["state"] == "ready" && upstream["epoch"] == 2
    })
    .await;
}

fn of_second(model: &Model, too: bool) -> Vec<Call> {
    model.calls().into_iter().filter(|call| call.epoch == 2 && call.too == too).collect()
}

#[tokio::test]
async fn after_a_restart_only_what_the_settings_name_is_warmed_before_the_barrier_opens() {
    let name = "required";
    let mut model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    assert_eq!(infer_json(batcher.front, "required-too", &[3]).await.output("twice"), [6]);
    model.restart().await;
    until_second_epoch_is_open(&batcher).await;
    assert_eq!(infer_json(batcher.front, name, &[3]).await.output("twice"), [6]);
    assert!(of_second(&model, true).is_empty(), "nobody has asked for it again");
    // Asked for again it is warmed, and its requests wait for that.
    assert_eq!(infer_json(batcher.front, "required-too", &[3]).await.output("twice"), [6]);
    let calls = of_second(&model, true);
    let first = calls.iter().position(|call| !call.is_warmup()).unwrap();
    let mut warmed: Vec<usize> = calls[..first].iter().map(|call| call.ids.len()).collect();
    warmed.sort_unstable();
    warmed.dedup();
    assert_eq!(warmed, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(batcher.upstreams().await["upstreams"][0]["epoch"], 2);
}

#[tokio::test]
async fn where_the_settings_name_none_the_one_that_was_asked_for_last_is_warmed_first() {
    let name = "recent";
    let mut model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, with_settings!(settings(name), models.models = vec![])).await;
    for asked in ["recent", "recent-too"] {
        assert_eq!(infer_json(batcher.front, asked, &[3]).await.output("twice"), [6]);
    }
    model.restart().await;
    until_second_epoch_is_open(&batcher).await;
    assert!(!of_second(&model, true).is_empty());
    assert!(of_second(&model, false).is_empty());
    assert_eq!(infer_json(batcher.front, name, &[3]).await.output("twice"), [6]);
    assert!(of_second(&model, false)[0].is_warmup());
}

#[tokio::test]
async fn a_model_that_the_server_does_not_have_is_said_with_what_it_has() {
    let name = "resnet50";
    for grpc_only in [false, true] {
        let model = Model::start(name, Behaviour { grpc_only, ..Behaviour::default() }).await;
        let batcher =
            start(with_settings!(settings("resnt50"), servers.upstream = Some(model.upstream()))).await;
        let says =
            "the model server has no model \"resnt50\" yet; it has \"resnet50\"; did you mean \"resnet50\"?";
        until("it says why it is not ready", async || {
            let got = get(batcher.admin, "/readyz").await;
            got.status == 503 && got.text().contains(says)
        })
        .await;
        let upstream = batcher.upstreams().await["upstreams"][0].clone();
        assert!(upstream["trouble"].as_str().unwrap().contains(says), "{upstream}");
        // A corrected file is taken over at once.
        let corrected =
            with_settings!(Settings::clone(&batcher.settings.now()), models.models = vec![name.to_owned()]);
        sluice_batcher::settings::take_over(&batcher.settings, corrected).unwrap();
        until("it is ready", async || get(batcher.admin, "/readyz").await.status == 200).await;
    }
}

#[tokio::test]
async fn readyz_says_which_model_server_cannot_be_reached_and_why() {
    let nobody = Model::reserve("nobody", Behaviour::default()).await;
    let batcher = start(with_settings!(settings("nobody"), servers.upstream = Some(nobody.upstream()))).await;
    until("it says so", async || {
        let text = get(batcher.admin, "/readyz").await.text();
        text.contains(&nobody.upstream()) && text.contains("cannot connect")
    })
    .await;
}

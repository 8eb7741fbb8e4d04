//! Names of models that clients invent: nothing is created for them, and they hardly delay the models that exist.

use std::sync::atomic::Ordering;

use prost::Message;
use serde_json::json;
use sluice_batcher::settings::Role;
use sluice_batcher::with_settings;
use sluice_protocol::grpc::{self, ModelReadyRequest, ModelReadyResponse};

use crate::client::{get, infer_grpc, infer_json, post, request, send};
use crate::completions::{Completions, TOKENS};
use crate::model::{Behaviour, Model};
use crate::start::{Batcher, settings, sidecar, start, until};

async fn ok(batcher: &Batcher, model: &str) -> f64 {
    let labels = format!("model=\"{model}\",form=\"json\",outcome=\"ok\"");
    batcher.metric("sluice_batcher_requests_total", &labels).await
}

async fn metrics(batcher: &Batcher) -> String {
    get(batcher.admin, "/metrics").await.text()
}

#[tokio::test]
async fn nothing_is_made_for_a_name_that_no_model_server_confirms() {
    let name = "exists";
    for grpc_only in [false, true] {
        let behaviour = Behaviour { grpc_only, v1: !grpc_only, ..Behaviour::default() };
        let model = Model::start(name, behaviour).await;
        let batcher = sidecar(&model, settings(name)).await;
        for number in 0..20 {
            let invented = format!("made-up-{grpc_only}-{number}");
            let rest = infer_json(batcher.front, &invented, &[1]).await;
            assert_eq!(rest.status, 404, "{}", rest.text());
            assert!(rest.text().contains("says the model server"), "{}", rest.text());
            let called = infer_grpc(batcher.front, &invented, &[1]).await;
            assert_eq!(called.grpc_status(), 5, "{called:?}");
            let v1 =
                post(batcher.front, &format!("/v1/models/{invented}:predict"), "{\"instances\":[1]}").await;
            assert_eq!(v1.status, 404, "{}", v1.text());
            let ready = get(batcher.front, &format!("/v2/models/{invented}/ready")).await;
            assert_eq!(ready.status, 404, "{}", ready.text());
        }
        assert!(!metrics(&batcher).await.contains("made-up"));
        assert!(!get(batcher.admin, "/explain").await.text().contains("made-up"));
        let models = batcher.upstreams().await["upstreams"][0]["models"].as_array().unwrap().len();
        assert_eq!(models, 1);
    }
}

#[tokio::test]
async fn a_name_that_was_denied_is_answered_from_memory() {
    let name = "memory";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let front = batcher.front;
    let asked =
        (1..200).map(|id| tokio::spawn(async move { infer_json(front, "forgotten-name", &[id]).await }));
    for asked in asked.collect::<Vec<_>>() {
        assert_eq!(asked.await.unwrap().status, 404);
    }
    // Two questions each time when it is no longer remembered.
    assert!(model.asked_for("forgotten-name") < 100, "{}", model.asked_for("forgotten-name"));
}

#[tokio::test]
async fn a_model_that_exists_has_its_label_after_any_number_of_names() {
    let name = "late-comer";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher =
        sidecar(&model, with_settings!(settings(name), models.models = vec![], models.max_models = 4)).await;
    for number in 0..20 {
        assert_eq!(infer_json(batcher.front, &format!("phantom-{number}"), &[1]).await.status, 404);
    }
    assert_eq!(infer_json(batcher.front, name, &[3]).await.output("twice"), [6]);
    assert_eq!(ok(&batcher, name).await, 1.0);
    assert!(!metrics(&batcher).await.contains("phantom"));
}

#[tokio::test]
async fn questions_that_are_not_answered_delay_no_model_that_is_known() {
    let name = "undelayed";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let front = batcher.front;
    let ask = |number: usize| {
        tokio::spawn(
            async move { infer_json(front, &format!("undelayed-never-answers-{number}"), &[1]).await },
        )
    };
    let asked: Vec<_> = (0..8).map(ask).collect();
    until("they are asked for", async || model.asked_for("never-answers") > 0).await;
    for id in 1..50 {
        assert_eq!(infer_json(front, name, &[id]).await.output("twice"), [id * 2]);
    }
    // One that was given up may be seen to go only after the next one has come.
    assert!(model.most_hanging() <= 4, "few at a time");
    asked.into_iter().for_each(|asked| asked.abort());
}

#[tokio::test]
async fn requests_to_a_model_that_nobody_named_wait_without_a_label_for_a_server() {
    let name = "unheard-of";
    let dir = tempfile::tempdir().unwrap();
    let members = dir.path().join("members.json");
    let settings = with_settings!(
        settings(name),
        servers.role = Role::Gateway,
        servers.members = Some(members.clone()),
        models.models = vec![]
    );
    let batcher = start(settings.clone()).await;
    let waits = tokio::spawn(infer_json(batcher.front, name, &[4]));
    until("it waits", async || batcher.unconfirmed_waiting().await == 1.0).await;
    assert!(!metrics(&batcher).await.contains(name));
    let model = Model::start(name, Behaviour::default()).await;
    let list = json!({"upstreams": [{"name": "m", "address": model.upstream()}]});
    std::fs::write(&members, list.to_string()).unwrap();
    assert_eq!(waits.await.unwrap().output("twice"), [8]);
    assert_eq!(ok(&batcher, name).await, 1.0);

    let nobody =
        with_settings!(settings, servers.members = Some(dir.path().join("none.json")), holding.hold_ms = 50);
    let got = infer_json(start(nobody).await.front, "unheard-of-too", &[4]).await;
    assert_eq!(got.status, 503, "{}", got.text());
    assert!(got.headers.contains_key("retry-after"), "{got:?}");
}

#[tokio::test]
async fn a_server_that_tells_of_no_model_is_asked_itself() {
    let name = "taciturn";
    let model = Model::start(name, Behaviour { no_metadata: true, ..Behaviour::default() }).await;
    let batcher = sidecar(&model, with_settings!(settings(name), models.models = vec![])).await;
    for id in 1..5 {
        assert_eq!(infer_json(batcher.front, name, &[id]).await.output("twice"), [id * 2]);
    }
    assert!(!metrics(&batcher).await.contains(name));
}

#[tokio::test]
async fn the_label_of_a_model_that_is_gone_is_free() {
    let name = "transient";
    let mut model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    assert_eq!(infer_json(batcher.front, "transient-too", &[3]).await.output("twice"), [6]);
    assert_eq!(ok(&batcher, "transient-too").await, 1.0);
    model.behaviour().too_is_gone.store(true, Ordering::SeqCst);
    model.restart().await;
    until("the new server answers for it", async || {
        infer_json(batcher.front, "transient-too", &[3]).await.status == 404
    })
    .await;
    until("its series have ended", async || !metrics(&batcher).await.contains("transient-too")).await;
    assert!(metrics(&batcher).await.contains("model=\"transient\""));
}

#[tokio::test]
async fn invented_names_of_streams_share_one_gate_and_open_no_label() {
    let model = Completions::start(0).await;
    let one = with_settings!(
        settings(""),
        models.models = vec![],
        streams.initial_streams = 1,
        streams.max_streams = 1
    );
    let batcher = start(with_settings!(one, servers.upstream = Some(model.address.to_string()))).await;
    batcher.until_ready().await;
    let front = batcher.front;
    let ask = |name: String| {
        let body = json!({"model": name, "stream": true}).to_string();
        tokio::spawn(async move { send(front, request("POST", "/v1/chat/completions", body)).await })
    };
    let invented: Vec<_> = (0..3).map(|number| ask(format!("invented-{number}"))).collect();
    until("one of them runs", async || model.open() == 1).await;
    let real = ask("chat-not-invented".into());
    until("the real one has a gate of its own", async || model.open() == 2).await;
    assert_eq!(model.bodies().len(), 2, "the others wait");
    assert!(!metrics(&batcher).await.contains("\"invented"));
    model.let_go(TOKENS);
    for one in invented.into_iter().chain([real]) {
        assert_eq!(one.await.unwrap().status, 200);
    }
    assert!(metrics(&batcher).await.contains("model=\"chat-not-invented\""));
}

#[tokio::test]
async fn readiness_of_a_version_is_what_the_model_server_says() {
    let name = "versioned";
    for grpc_only in [false, true] {
        let model = Model::start(name, Behaviour { grpc_only, ..Behaviour::default() }).await;
        let batcher = sidecar(&model, settings(name)).await;
        let rest = async |path: &str| get(batcher.front, &format!("/v2/models/{path}/ready")).await;
        assert_eq!(rest(name).await.status, 200);
        assert_eq!(rest("versioned/versions/1").await.text(), "{\"ready\":true}");
        let none = rest("versioned/versions/99").await;
        assert_eq!(none.status, 404, "{}", none.text());
        assert!(none.text().contains("says the model server"), "{}", none.text());
        let called = async |version: &str| {
            let asked = ModelReadyRequest { name: name.into(), version: version.into() };
            let got = crate::client::grpc(batcher.front, grpc::path::MODEL_READY, &asked).await;
            if got.grpc_status() != 0 {
                return Err(got.grpc_status());
            }
            let message = grpc::decode_unary(got.body, 100).unwrap();
            Ok(ModelReadyResponse::decode(message).unwrap().ready)
        };
        assert_eq!((called("").await, called("1").await), (Ok(true), Ok(true)));
        assert_eq!(called("99").await, if grpc_only { Err(5) } else { Ok(false) });
    }
}

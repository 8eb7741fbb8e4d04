//! A gateway whose servers have different models: each request goes to a server that has its model.

use std::net::SocketAddr;

use prost::Message;
use serde_json::{Value, json};
use sluice_batcher::settings::{ControlPaths, take_over};
use sluice_batcher::with_settings;
use sluice_protocol::grpc::{ModelMetadataRequest, ModelMetadataResponse, decode_unary, path};
use tempfile::TempDir;

use crate::client::{Got, get, grpc, infer_grpc, infer_json, post, request, send};
use crate::gateway::{gateway, write_members};
use crate::model::{Behaviour, Model};
use crate::start::{Batcher, start, until};

/// Two servers with one model each, and a gateway in front of both.
struct Bench {
    one: Model,
    two: Model,
    batcher: Batcher,
    front: SocketAddr,
    members: std::path::PathBuf,
    _dir: TempDir,
}

impl Bench {
    async fn start(one: &str, two: &str, behaviour: impl Fn() -> Behaviour) -> Self {
        let bench =
            Self::with(Model::start(one, behaviour()).await, Model::start(two, behaviour()).await).await;
        until("both are ready", async || bench.ready().await == 2).await;
        bench
    }

    async fn with(one: Model, two: Model) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let members = dir.path().join("members.json");
        write_members(&members, &[&one, &two]);
        let batcher = start(with_settings!(gateway("", &members), models.models = vec![])).await;
        Self { one, two, front: batcher.front, batcher, members, _dir: dir }
    }

    async fn ready(&self) -> usize {
        let state = self.batcher.upstreams().await;
        state["upstreams"].as_array().unwrap().iter().filter(|upstream| upstream["state"] == "ready").count()
    }
}

#[tokio::test]
async fn a_request_is_held_while_the_server_that_may_have_its_model_is_not_there_yet() {
    let (one, two) = ("apart-late", "apart-early");
    let late = Model::reserve(one, Behaviour::default()).await;
    let mut bench = Bench::with(late, Model::start(two, Behaviour::default()).await).await;
    until("one of them is ready", async || bench.ready().await == 1).await;
    let front = bench.front;
    assert_eq!(infer_json(front, two, &[3]).await.output("twice"), [6]);
    let held: Vec<_> =
        (1..=10).map(|id| tokio::spawn(async move { infer_json(front, one, &[id]).await })).collect();
    let metadata = tokio::spawn(async move { get(front, &format!("/v2/models/{one}")).await });
    until("they wait", async || bench.batcher.unconfirmed_waiting().await == 10.0).await;
    // The other server has been asked and has denied the model.
    until("the server that is there was asked", async || {
        bench.two.asked(&format!("GET /v2/models/{one}")) >= 2
    })
    .await;
    bench.one.restart().await;
    for (id, request) in (1..).zip(held) {
        assert_eq!(request.await.unwrap().output("twice"), [2 * id]);
    }
    assert_eq!(metadata.await.unwrap().status, 200);
    assert_eq!(bench.two.asked(&format!("POST /v2/models/{one}/infer")), 0);
}

#[tokio::test]
async fn a_model_that_no_server_has_is_refused_by_one_once_all_have_been_asked() {
    let bench = Bench::start("apart-known", "apart-known-too", Behaviour::default).await;
    assert_eq!(infer_json(bench.front, "apart-nowhere", &[1]).await.status, 404);
    let got = get(bench.front, "/v2/models/apart-nowhere").await;
    assert_eq!(got.status, 404);
    assert!(got.text().contains("says the model server"), "{}", got.text());
}

#[tokio::test]
async fn a_server_that_is_removed_is_no_longer_waited_for() {
    let name = "apart-removed";
    let bench = Bench::with(
        Model::reserve("gone", Behaviour::default()).await,
        Model::start("other", Behaviour::default()).await,
    )
    .await;
    until("one of them is ready", async || bench.ready().await == 1).await;
    let front = bench.front;
    let asked = tokio::spawn(async move { infer_json(front, name, &[1]).await });
    let passed = tokio::spawn(async move { get(front, &format!("/v2/models/{name}")).await });
    until("it waits", async || bench.batcher.unconfirmed_waiting().await == 1.0).await;
    write_members(&bench.members, &[&bench.two]);
    assert_eq!(asked.await.unwrap().status, 404);
    assert_eq!(passed.await.unwrap().status, 404);
}

#[tokio::test]
async fn a_hold_that_ends_while_a_server_is_missing_is_no_404() {
    let dir = tempfile::tempdir().unwrap();
    let members = dir.path().join("members.json");
    let (gone, there) = (
        Model::reserve("gone", Behaviour::default()).await,
        Model::start("there", Behaviour::default()).await,
    );
    write_members(&members, &[&gone, &there]);
    let settings = with_settings!(
        gateway("", &members),
        models.models = vec![],
        holding.hold_ms = 300,
        batching.objective_ms = 100
    );
    let batcher = start(settings).await;
    let front = batcher.front;
    until("the one that is there serves", async || infer_json(front, "there", &[1]).await.status == 200)
        .await;
    // Its answer to the question for the model may come after the hold is over, the first times.
    let says_so = |got: Got| {
        assert_eq!(got.status, 503, "{}", got.text());
        got.text().contains("no model server that is ready has the model") && got.text().contains("1 others")
    };
    until("inference says why", async || says_so(infer_json(front, "apart-unsure", &[1]).await)).await;
    until("metadata says why", async || says_so(get(front, "/v2/models/apart-unsure").await)).await;
}

#[tokio::test]
async fn a_server_that_has_denied_a_model_is_not_asked_again_each_time_another_one_fails_to_start() {
    let dir = tempfile::tempdir().unwrap();
    let members = dir.path().join("members.json");
    let there = Model::start("apart-patient", Behaviour::default()).await;
    let failing = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let list = json!({"upstreams": [{"name": "there", "address": there.address.to_string()},
        {"name": "failing", "address": failing.local_addr().unwrap().to_string()}]});
    std::fs::write(&members, list.to_string()).unwrap();
    let batcher = start(with_settings!(gateway("", &members), models.models = vec![])).await;
    let front = batcher.front;
    let question = "GET /v2/models/apart-phantom";
    let asked = tokio::spawn(async move { infer_json(front, "apart-phantom", &[1]).await });
    let attempts = async |most: usize| {
        for _ in 0..most {
            drop(failing.accept().await.unwrap());
        }
    };
    tokio::select! {
        () = until("the one that is there was asked", async || there.asked(question) > 0) => {}
        () = attempts(usize::MAX) => {}
    }
    attempts(8).await;
    assert_eq!(there.asked(question), 1);
    asked.abort();
}

#[tokio::test]
async fn readiness_does_not_wait_for_a_server_that_is_missing() {
    let bench = Bench::with(
        Model::reserve("gone", Behaviour::default()).await,
        Model::start("at-hand", Behaviour::default()).await,
    )
    .await;
    until("one of them is ready", async || bench.ready().await == 1).await;
    let got = get(bench.front, "/v2/models/apart-unready/ready").await;
    assert_eq!(got.status, 503, "{}", got.text());
    assert!(got.text().contains("no model server that is ready has the model"), "{}", got.text());
    assert!(got.text().contains("1 others"), "{}", got.text());
}

#[tokio::test]
async fn a_denial_does_not_outlive_the_servers_that_gave_it() {
    let name = "apart-joined";
    let dir = tempfile::tempdir().unwrap();
    let members = dir.path().join("members.json");
    let there = Model::start("apart-first", Behaviour::default()).await;
    let mut late = Model::reserve(name, Behaviour::default()).await;
    write_members(&members, &[&there]);
    let batcher = start(with_settings!(gateway("", &members), models.models = vec![])).await;
    let front = batcher.front;
    until("it serves", async || infer_json(front, "apart-first", &[1]).await.status == 200).await;
    assert_eq!(infer_json(front, name, &[1]).await.status, 404);
    write_members(&members, &[&there, &late]);
    until("there are two", async || batcher.upstreams().await["upstreams"].as_array().unwrap().len() == 2)
        .await;
    let held = tokio::spawn(async move { infer_json(front, name, &[3]).await });
    until("it waits for the other one", async || batcher.unconfirmed_waiting().await == 1.0).await;
    late.restart().await;
    assert_eq!(held.await.unwrap().output("twice"), [6]);
}

#[tokio::test]
async fn a_model_whose_server_is_down_is_not_forgotten_because_the_others_lack_it() {
    let (one, two) = ("apart-kept", "apart-lacks-it");
    let mut bench = Bench::start(one, two, Behaviour::default).await;
    let front = bench.front;
    assert_eq!(infer_json(front, one, &[1]).await.output("twice"), [2]);
    until("the other one has said that it lacks it", async || {
        bench.two.asked(&format!("GET /v2/models/{one}")) >= 2
    })
    .await;
    bench.one.kill();
    until("it is gone", async || bench.ready().await == 1).await;
    // When a third one is seen, it has been looked since for what all have denied.
    let third = Model::reserve("apart-third", Behaviour::default()).await;
    write_members(&bench.members, &[&bench.one, &bench.two, &third]);
    until("there are three", async || {
        bench.batcher.upstreams().await["upstreams"].as_array().unwrap().len() == 3
    })
    .await;
    let held = tokio::spawn(async move { infer_json(front, one, &[3]).await });
    let label = format!("model=\"{one}\"");
    until("it waits in its queue", async || {
        bench.batcher.metric("sluice_batcher_queue_rows", &label).await == 1.0
    })
    .await;
    bench.one.restart().await;
    assert_eq!(held.await.unwrap().output("twice"), [6]);
}

#[tokio::test]
async fn what_passes_through_goes_to_a_server_that_has_the_model() {
    let (one, two) = ("apart-a", "apart-b");
    let config =
        || Behaviour { config: (200, "{\"max_batch_size\":8}".into()), v1: true, ..Behaviour::default() };
    let bench = Bench::start(one, two, config).await;
    for round in 0..6 {
        for name in [one, two] {
            let name_of = |got: &Got| serde_json::from_slice::<Value>(&got.body).unwrap()["name"].clone();
            let metadata = get(bench.front, &format!("/v2/models/{name}")).await;
            assert_eq!((metadata.status, name_of(&metadata)), (200, name.into()), "round {round}");
            assert_eq!(get(bench.front, &format!("/v2/models/{name}/config")).await.status, 200);
            let explained = post(bench.front, &format!("/v1/models/{name}:explain"), "{}").await;
            assert_eq!(explained.status, 200, "{}", explained.text());
            let asked = ModelMetadataRequest { name: name.into(), ..Default::default() };
            let got = grpc(bench.front, path::MODEL_METADATA, &asked).await;
            assert_eq!(got.grpc_status(), 0, "{got:?}");
            let message = decode_unary(got.body, 1 << 20).unwrap();
            assert_eq!(ModelMetadataResponse::decode(message).unwrap().name, name);
        }
    }
    // A model that a path encodes is the same one.
    let encoded = format!("/v2/models/{}", one.replace('-', "%2D"));
    assert_ne!(get(bench.front, &encoded).await.status, 503);
}

#[tokio::test]
async fn a_server_is_asked_for_a_name_once_and_not_each_time() {
    let bench = Bench::start("apart-asked", "apart-asked-too", Behaviour::default).await;
    let path = "/v2/models/apart-invented";
    for _ in 0..20 {
        assert_eq!(get(bench.front, path).await.status, 404);
    }
    let asked = bench.one.asked(&format!("GET {path}")) + bench.two.asked(&format!("GET {path}"));
    assert_eq!(asked, 20 + 2, "a question for each server, and the requests themselves");
}

#[tokio::test]
async fn calls_that_change_a_server_are_refused_where_there_are_several() {
    let (one, two) = ("apart-changed", "apart-changed-too");
    let bench = Bench::start(one, two, Behaviour::default).await;
    let calls = [
        format!("/v2/repository/models/{one}/load"),
        format!("/v2/repository/models/{one}/unload"),
        "/v2/logging".to_owned(),
        "/v2/trace/setting".to_owned(),
        format!("/v2/models/{one}/trace/setting"),
        "/v2/systemsharedmemory/region/r/register".to_owned(),
        "/v2/cudasharedmemory/unregister".to_owned(),
    ];
    for path in &calls {
        let got = post(bench.front, path, "{}").await;
        assert_eq!(got.status, 403, "whether a client may do so comes first: {}", got.text());
    }
    let allowed =
        with_settings!((*bench.batcher.settings.now()).clone(), access.control_paths = ControlPaths::Allow);
    take_over(&bench.batcher.settings, allowed).unwrap();
    for path in calls.iter().map(String::as_str).chain([
        "/v2/x/..%2frepository%2fmodels%2fm%2fload",
        "/models",
        "/sleep",
        "/v1/load_lora_adapter",
        // It would be inference, if it were not another one too.
        "/v2/models/..%2frepository%2fmodels%2fm%2funload%3f/infer",
    ]) {
        let got = post(bench.front, path, "{}").await;
        assert_eq!(got.status, 501, "{path}: {}", got.text());
        assert!(got.text().contains("2 model servers"), "{}", got.text());
        assert_eq!(bench.one.asked(&format!("POST {path}")) + bench.two.asked(&format!("POST {path}")), 0);
    }
    // Of the shape of RepositoryModelLoadRequest: the second field is the model.
    let load = ModelMetadataRequest { name: String::new(), version: one.into() };
    let method = "/inference.GRPCInferenceService/RepositoryModelLoad";
    assert_eq!(grpc(bench.front, method, &load).await.grpc_status(), 12);
    assert_eq!(bench.one.asked(&format!("POST {method}")) + bench.two.asked(&format!("POST {method}")), 0);
    // The same call reads or sets; what it sets is its first field.
    for method in
        ["/inference.GRPCInferenceService/LogSettings", "/inference.GRPCInferenceService/TraceSetting"]
    {
        let at_servers =
            || bench.one.asked(&format!("POST {method}")) + bench.two.asked(&format!("POST {method}"));
        let sets = ModelMetadataRequest { name: "x".into(), version: String::new() };
        let got = grpc(bench.front, method, &sets).await;
        assert_eq!((got.grpc_status(), at_servers()), (12, 0), "{method}: {got:?}");
        grpc(bench.front, method, &ModelMetadataRequest::default()).await;
        assert_eq!(at_servers(), 1, "{method}");
    }
    // What only reads goes to any of them.
    let got = get(bench.front, "/v2/logging").await;
    assert_eq!(got.status, 404, "the model server's own answer: {}", got.text());
    assert!(got.text().contains("says the model server"));
    // With one server there is nothing to choose.
    write_members(&bench.members, &[&bench.one]);
    until("one is left", async || {
        bench.batcher.upstreams().await["upstreams"].as_array().unwrap().len() == 1
    })
    .await;
    assert_eq!(post(bench.front, &calls[0], "{}").await.status, 404, "the model server's own answer");
    assert_eq!(bench.one.asked(&format!("POST {}", calls[0])), 1);
    assert_eq!(infer_grpc(bench.front, one, &[4]).await.grpc_status(), 0);
}

/// As clients of OpenAI's API name a model.
async fn complete(front: SocketAddr, model: &str) -> Got {
    let body = json!({"model": model, "prompt": "x", "max_tokens": 3}).to_string();
    let mut request = request("POST", "/v1/completions", body);
    request.headers_mut().insert("content-type", "application/json".parse().unwrap());
    send(front, request).await
}

#[tokio::test]
async fn the_model_of_an_openai_body_decides_too_and_a_name_that_no_server_lists_may_go_to_any() {
    let (one, two) = ("apart-chat", "apart-chat-too");
    let bench = Bench::start(one, two, Behaviour::default).await;
    let path = "POST /v1/completions";
    for round in 1..=3 {
        for (name, model) in [(one, &bench.one), (two, &bench.two)] {
            // The stub knows no such path: what counts is whose answer it is.
            assert_eq!(complete(bench.front, name).await.status, 404);
            assert_eq!(model.asked(path), round, "{name}");
        }
    }
    assert_eq!(complete(bench.front, "apart-alias").await.status, 404);
    assert_eq!(bench.one.asked(path) + bench.two.asked(path), 7);
}

#[tokio::test]
async fn a_server_that_is_down_does_not_hold_back_a_name_that_others_may_take() {
    let bench = Bench::with(
        Model::reserve("apart-down", Behaviour::default()).await,
        Model::start("apart-up", Behaviour::default()).await,
    )
    .await;
    until("one of them is ready", async || bench.ready().await == 1).await;
    assert_eq!(complete(bench.front, "apart-any-name").await.status, 404, "the model server's own answer");
    assert_eq!(bench.two.asked("POST /v1/completions"), 1);
}

#[tokio::test]
async fn a_sequence_is_not_generated_where_there_are_several_servers() {
    let name = "apart-generates";
    let bench = Bench::start(name, "apart-generates-too", Behaviour::default).await;
    let body = json!({"text_input": "x", "parameters": {"sequence_id": 7}}).to_string();
    let got = post(bench.front, &format!("/v2/models/{name}/generate"), body).await;
    assert_eq!(got.status, 501, "{}", got.text());
    assert_eq!(bench.one.asked(&format!("POST /v2/models/{name}/generate")), 0);
}

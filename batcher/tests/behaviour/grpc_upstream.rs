//! Model servers that speak gRPC: only gRPC, or gRPC on a separate port.

use sluice_batcher::settings::FormSetting;
use sluice_batcher::with_settings;
use sluice_protocol::grpc::{ModelInferRequest, infer_parameter, model_infer_request, path};
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;

use crate::barrier::kill_fifty_times;
use crate::client::{Got, get, grpc, grpc_output, infer_binary, infer_grpc, infer_json, post};
use crate::model::{Behaviour, Model};
use crate::start::{Batcher, hold_with, settings, sidecar, start, until};

fn grpc_only() -> Behaviour {
    Behaviour { grpc_only: true, ..Behaviour::default() }
}

async fn until_queued(batcher: &Batcher, name: &str, rows: u32) {
    let label = format!("model=\"{name}\"");
    until("all others wait", async || {
        batcher.metric("sluice_batcher_queue_rows", &label).await == f64::from(rows)
    })
    .await;
}

/// All forms at once while the model is held, so that they share a batch.
async fn one_batch(batcher: &Batcher, model: &Model, name: &'static str) -> [Got; 3] {
    let front = batcher.front;
    let first = hold_with(model, front, name, 100).await;
    let json = tokio::spawn(infer_json(front, name, &[1]));
    let binary = tokio::spawn(infer_binary(front, name, &[2, 3]));
    let grpc = tokio::spawn(infer_grpc(front, name, &[4]));
    until_queued(batcher, name, 4).await;
    model.open_gate();
    assert_eq!(first.await.unwrap().output("twice"), [200]);
    [json.await.unwrap(), binary.await.unwrap(), grpc.await.unwrap()]
}

#[tokio::test]
async fn a_server_that_speaks_grpc_only_is_found_out_and_serves_all_forms() {
    let name = "grpc-only";
    let model = Model::start(name, grpc_only()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let [json, binary, grpc] = one_batch(&batcher, &model, name).await;
    assert_eq!(json.output("twice"), [2]);
    assert_eq!(binary.output("twice"), [4, 6]);
    assert_eq!(grpc_output(&grpc, "twice"), [8]);
    assert!(model.calls().iter().all(|call| call.form == "grpc"));
    assert_eq!(model.client_calls().len(), 2, "what waited together went together");
    let passed = get(batcher.front, "/v2/repository/index").await;
    assert_eq!(passed.status, 501, "{}", passed.text());
    assert!(passed.text().contains("speaks gRPC only"), "{}", passed.text());
    assert_eq!(get(batcher.admin, "/upstream-livez?path=/v2/health/live").await.status, 200);
}

#[tokio::test]
async fn a_grpc_address_alone_is_enough() {
    let name = "grpc-address";
    let model = Model::start(name, grpc_only()).await;
    let batcher = start(with_settings!(settings(name), servers.upstream_grpc = Some(model.upstream()))).await;
    batcher.until_ready().await;
    assert_eq!(infer_json(batcher.front, name, &[1]).await.output("twice"), [2]);
    assert_eq!(batcher.upstreams().await["upstreams"][0]["address"], model.upstream());
    assert_eq!(get(batcher.admin, "/upstream-startedz").await.status, 200);
}

#[tokio::test]
async fn an_error_of_a_grpc_server_reaches_the_poisoned_client_alone_in_its_own_form() {
    let name = "grpc-poison";
    let model = Model::start(name, Behaviour { poison: Some(66), ..grpc_only() }).await;
    let batcher = sidecar(&model, settings(name)).await;
    let first = hold_with(&model, batcher.front, name, 100).await;
    let front = batcher.front;
    let good: Vec<_> =
        (1..=5).map(|id| tokio::spawn(async move { infer_json(front, name, &[id]).await })).collect();
    let rest = tokio::spawn(infer_json(front, name, &[66]));
    let grpc = tokio::spawn(infer_grpc(front, name, &[66]));
    until_queued(&batcher, name, 7).await;
    model.open_gate();
    assert_eq!(first.await.unwrap().status, 200);
    for (id, good) in (1..).zip(good) {
        assert_eq!(good.await.unwrap().output("twice"), [id * 2]);
    }
    let rest = rest.await.unwrap();
    assert_eq!((rest.status, rest.text().as_str()), (400, "{\"error\":\"poisoned, says the model server\"}"));
    assert!(!rest.headers.keys().any(|name| name.as_str().starts_with("grpc-")), "{rest:?}");
    let grpc = grpc.await.unwrap();
    assert_eq!(grpc.grpc_status(), 9, "the very code: FAILED_PRECONDITION");
    assert_eq!(grpc.headers["grpc-message"], "poisoned, says the model server");
    assert_eq!(grpc.headers["grpc-status-details-bin"], "c29tZQ");
}

/// A request of a sequence, which is never merged.
fn of_a_sequence(model: &str, id: i64) -> ModelInferRequest {
    let sequence = infer_parameter::ParameterChoice::Int64Param(7);
    ModelInferRequest {
        model_name: model.into(),
        id: "mine".into(),
        parameters: [(
            "sequence_id".to_owned(),
            sluice_protocol::grpc::InferParameter { parameter_choice: Some(sequence) },
        )]
        .into(),
        inputs: vec![model_infer_request::InferInputTensor {
            name: "id".into(),
            datatype: "INT64".into(),
            shape: vec![1, 1],
            ..Default::default()
        }],
        raw_input_contents: vec![id.to_le_bytes().to_vec().into()],
        ..Default::default()
    }
}

#[tokio::test]
async fn a_grpc_request_that_is_not_merged_goes_as_it_came_where_grpc_is_spoken() {
    let name = "as-it-came";
    let model = Model::start(name, Behaviour::default()).await;
    // Batches go over REST; the same port is known to speak gRPC.
    let both = with_settings!(settings(name), servers.upstream_grpc = Some(model.upstream()));
    let batcher = sidecar(&model, both).await;
    let got = grpc(batcher.front, path::MODEL_INFER, &of_a_sequence(name, 21)).await;
    assert_eq!(grpc_output(&got, "twice"), [42]);
    assert_eq!(
        got.headers["x-client"], "test",
        "the client's metadata reached the server, and the server's the client"
    );
    assert_eq!(model.client_calls().last().unwrap().form, "grpc");
    assert_eq!(grpc_output(&infer_grpc(batcher.front, name, &[5]).await, "twice"), [10]);
    assert_eq!(model.client_calls().last().unwrap().form, "binary", "what may be merged goes as batches do");
    // Without that knowledge it is transcoded.
    let batcher = sidecar(&model, settings(name)).await;
    let got = grpc(batcher.front, path::MODEL_INFER, &of_a_sequence(name, 22)).await;
    assert_eq!(grpc_output(&got, "twice"), [44]);
    assert_eq!(model.client_calls().last().unwrap().form, "binary");
}

#[tokio::test]
async fn the_form_may_be_set_to_grpc_where_rest_is_spoken_too() {
    let name = "grpc-set";
    let model = Model::start(name, Behaviour::default()).await;
    let grpc = with_settings!(
        settings(name),
        servers.upstream_form = FormSetting::Grpc,
        servers.upstream_grpc = Some(model.upstream())
    );
    let batcher = sidecar(&model, grpc).await;
    assert_eq!(infer_json(batcher.front, name, &[1]).await.output("twice"), [2]);
    assert!(model.calls().iter().all(|call| call.form == "grpc"));
    assert_eq!(get(batcher.front, "/echo").await.status, 418, "what passes through goes over HTTP/1.1");
    let odd = post(batcher.front, &format!("/v2/models/{name}/infer"), "{}").await;
    assert!(odd.text().contains("says the model server"), "{}", odd.text());
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused_where_nobody_else_could_read_it() {
    let name = "grpc-odd";
    let model = Model::start(name, grpc_only()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let odd = post(batcher.front, &format!("/v2/models/{name}/infer"), "nonsense").await;
    assert_eq!(odd.status, 400);
    assert!(odd.text().contains("cannot be read"), "{}", odd.text());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_of_a_grpc_server_lose_nothing_either() {
    let name = "killed-grpc";
    kill_fifty_times(name, Model::start(name, grpc_only()).await).await;
}

/// Takes connections and answers each in its own odd way.
async fn hostile(answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            tokio::spawn(async move {
                let _ = stream.read(&mut [0; 1024]).await;
                let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, answer).await;
            });
        }
    });
    address
}

#[tokio::test]
async fn a_server_that_speaks_neither_protocol_is_named_and_nothing_hangs() {
    for answer in [&b"SSH-2.0-OpenSSH_9.2\r\n"[..], b"\x00\xff\xfe garbage \x00", b""] {
        let name = "neither";
        let upstream = hostile(answer).await;
        let settings = with_settings!(
            settings(name),
            holding.hold_ms = 200,
            batching.objective_ms = 100,
            servers.upstream = Some(upstream)
        );
        let batcher = start(settings).await;
        let got = infer_json(batcher.front, name, &[1]).await;
        assert_eq!(got.status, 503, "{}", got.text());
        until("the trouble is told", async || {
            let trouble = batcher.upstreams().await["upstreams"][0]["trouble"].clone();
            trouble.as_str().is_some_and(|text| text.contains("speaks neither HTTP/1.1"))
        })
        .await;
    }
}

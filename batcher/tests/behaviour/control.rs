//! What clients may not do here: control the model server, pretend to be the batcher, see others' requests.

use http::HeaderValue;
use serde_json::json;
use sluice_batcher::settings::ControlPaths;
use sluice_batcher::with_settings;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;

use crate::client::{get, grpc_framed, infer_json, json_body, post, request, send};
use crate::model::{Behaviour, Model};
use crate::raw::{exchange, status};
use crate::start::{hold_with, settings, sidecar, until};

#[tokio::test]
async fn control_paths_are_refused_unless_a_setting_allows_them() {
    let name = "controlled";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    for path in [
        "/v2/repository/models/controlled/unload",
        "//v2/./repository//models/controlled/%75nload/",
        "/v2/models/x/..%2f..%2frepository/models/controlled/load",
        "/V2/REPOSITORY/models/controlled/load",
        "/v2/trace/setting",
        "/v2/logging",
        "/v2/systemsharedmemory/region/r/register",
        "/sleep",
        "/v1/load_lora_adapter",
        // A path that would be inference, if it were not another one too.
        "/v2/models/..%2frepository%2fmodels%2fcontrolled%2funload%3f/infer",
    ] {
        let got = post(batcher.front, path, "{}").await;
        assert_eq!(got.status, 403, "{path}: {}", got.text());
        assert!(got.text().contains("controlPaths"), "{}", got.text());
    }
    let target = "POST http://x/v2/repository/models/controlled/unload HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\
                  content-length: 0\r\n\r\n";
    assert_eq!(status(&exchange(batcher.front, target).await), 403, "in absolute form");
    for method in [
        "/inference.GRPCInferenceService/RepositoryModelUnload",
        "/inference.GRPCInferenceService/TraceSetting",
        "/inference.GRPCInferenceService/LogSettings",
        "/inference.model_repository.ModelRepositoryService/RepositoryModelLoad",
    ] {
        let got = grpc_framed(batcher.front, method, vec![0; 5], &[]).await;
        assert_eq!(got.grpc_status(), 7, "{method}: {got:?}");
        // The same without the content type by which gRPC is known.
        assert_eq!(post(batcher.front, method, "").await.status, 403, "{method}");
    }
    // What only reads reaches the server.
    let index = post(batcher.front, "/v2/repository/index", "{}").await;
    assert_eq!((index.status, index.text().contains("\"controlled\"")), (200, true), "{}", index.text());
    let stats = post(batcher.front, "/v2/models/controlled/stats", "{}").await;
    assert!(stats.text().contains("says the model server"), "{}", stats.text());
    let trace = get(batcher.front, "/v2/trace/setting").await;
    assert!(trace.text().contains("says the model server"), "{}", trace.text());
    let allowed = with_settings!(settings(name), access.control_paths = ControlPaths::Allow);
    let batcher = sidecar(&model, allowed).await;
    let got = post(batcher.front, "/v2/repository/models/controlled/unload", "{}").await;
    assert!(got.text().contains("says the model server"), "{}", got.text());
}

#[tokio::test]
async fn only_named_paths_pass_where_some_are_named() {
    let name = "named-paths";
    let model = Model::start(name, Behaviour::default()).await;
    let paths = vec!["/v2".to_owned(), "/inference.GRPCInferenceService".to_owned()];
    let batcher = sidecar(&model, with_settings!(settings(name), access.pass_paths = paths)).await;
    assert_eq!(get(batcher.front, &format!("/v2/models/{name}")).await.status, 200);
    for path in ["/echo", "/v2/../echo", "/v2/%2e%2e/echo", "/v2x"] {
        let got = get(batcher.front, path).await;
        assert_eq!(got.status, 403, "{path}");
        assert!(got.text().contains("passPaths"), "{}", got.text());
    }
    assert_eq!(grpc_framed(batcher.front, "/other.Service/Method", vec![0; 5], &[]).await.grpc_status(), 7);
    assert_eq!(
        infer_json(batcher.front, name, &[7]).await.output("twice"),
        [14],
        "what is batched is not meant"
    );
    assert_eq!(get(batcher.front, "/v2/health/ready").await.status, 200);
}

#[tokio::test]
async fn no_client_passes_for_the_batcher_itself() {
    let name = "claimed";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let claim = |mut asked: http::Request<_>| {
        for claim in ["x-sluice-warmup", "x_sluice_warmup", "x-sluice-other", "x-sluice-priority"] {
            asked.headers_mut().insert(claim, HeaderValue::from_static("1"));
        }
        asked.headers_mut().insert("x-own", HeaderValue::from_static("1"));
        asked
    };
    let passed = send(batcher.front, claim(request("POST", "/echo", ""))).await;
    let mut got: Vec<&str> =
        passed.headers.keys().filter_map(|key| key.as_str().strip_prefix("x-got-")).collect();
    got.retain(|name| name.starts_with("x-") || name.starts_with("x_"));
    got.sort_unstable();
    assert_eq!(got, ["x-own", "x-sluice-priority"]);
    // Alone, as it came: its shape is no batch's.
    let body =
        json!({"inputs": [{"name": "id", "datatype": "INT64", "shape": [1, 1], "data": [7]}], "own": 1});
    let path = format!("/v2/models/{name}/infer");
    let alone = send(batcher.front, claim(request("POST", &path, body.to_string()))).await;
    assert_eq!(alone.output("twice"), [14]);
    let calls = model.client_calls();
    let headers = &calls.last().unwrap().headers;
    assert!(headers.contains_key("x-own") && headers.contains_key("x-sluice-priority"), "{headers:?}");
    assert!(
        !headers.contains_key("x-sluice-warmup") && !headers.contains_key("x_sluice_warmup"),
        "{headers:?}"
    );
    assert!(!headers.contains_key("x-sluice-other"), "{headers:?}");
    let warmed = model
        .calls()
        .iter()
        .filter(|call| call.is_warmup())
        .all(|call| call.headers["x-sluice-warmup"] == "1");
    assert!(warmed, "ours are marked");
}

#[tokio::test]
async fn keys_and_cookies_are_credentials_which_reach_the_server_alone_and_in_batches() {
    let name = "keys";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let path = format!("/v2/models/{name}/infer");
    let with = |header: &'static str, value: &'static str, id: i64| {
        let mut asked = request("POST", &path, json_body(&[id]));
        asked.headers_mut().insert(header, HeaderValue::from_static(value));
        tokio::spawn(send(batcher.front, asked))
    };
    let blocker = hold_with(&model, batcher.front, name, 100).await;
    let asked = [
        with("x-api-key", "a", 1),
        with("x-api-key", "b", 2),
        with("cookie", "s=1", 3),
        with("x-api-key", "a", 4),
        with("cookie", "s=2", 5),
        with("cookie", "s=1", 6),
    ];
    until("all wait", async || {
        batcher.metric("sluice_batcher_queue_rows", &format!("model=\"{name}\"")).await == 6.0
    })
    .await;
    model.open_gate();
    blocker.await.unwrap();
    for (id, asked) in (1..).zip(asked) {
        assert_eq!(asked.await.unwrap().output("twice"), [2 * id]);
    }
    // Alone: as the only one of its batch, and as it came.
    assert_eq!(with("x-api-key", "c", 7).await.unwrap().output("twice"), [14]);
    let body =
        json!({"inputs": [{"name": "id", "datatype": "INT64", "shape": [1, 1], "data": [8]}], "own": 1});
    let mut asked = request("POST", &path, body.to_string());
    asked.headers_mut().insert("cookie", HeaderValue::from_static("s=3"));
    assert_eq!(send(batcher.front, asked).await.output("twice"), [16]);
    let credentials = |headers: &http::HeaderMap| {
        let value = |name: &str| headers.get(name).map(|value| value.to_str().unwrap().to_owned());
        value("x-api-key").or(value("cookie")).unwrap_or_default()
    };
    let mut calls: Vec<(String, Vec<i64>)> = model
        .client_calls()
        .iter()
        .skip(1)
        .map(|call| (credentials(&call.headers), call.ids.clone()))
        .collect();
    calls.sort();
    let expected = [("a", vec![1, 4]), ("b", vec![2]), ("c", vec![7]), ("s=1", vec![3, 6]), ("s=2", vec![5])];
    let mut expected: Vec<(String, Vec<i64>)> = expected.map(|(value, ids)| (value.to_owned(), ids)).into();
    expected.push(("s=3".to_owned(), vec![8]));
    assert_eq!(calls, expected);
}

#[tokio::test]
async fn requests_are_shown_to_the_loopback_interface_or_for_a_token() {
    let name = "explained-to";
    let model = Model::start(name, Behaviour::default()).await;
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    std::fs::write(&file, "s3cret\n").unwrap();
    let shown =
        with_settings!(settings(name), observe.explain_requests = 10, observe.admin_token_file = Some(file));
    let batcher = sidecar(&model, shown).await;
    assert_eq!(get(batcher.admin, "/explain").await.status, 200);
    // As from another machine: no program has 127.0.0.6 by itself, a proxy in the pod has.
    let ask = async |path: &str, headers: &str| {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.6:0".parse().unwrap()).unwrap();
        let mut stream = socket.connect(batcher.admin).await.unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n{headers}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    for path in ["/explain", "/explain?id=x"] {
        let refused = ask(path, "").await;
        assert_eq!(status(&refused), 401, "{refused}");
        assert!(refused.contains("adminTokenFile") && !refused.contains(name), "{refused}");
        assert_eq!(status(&ask(path, "authorization: Bearer wrong\r\n").await), 401);
    }
    assert_eq!(status(&ask("/explain", "authorization: Bearer s3cret\r\n").await), 200);
    for open in ["/livez", "/readyz", "/metrics", "/upstreams"] {
        assert_eq!(status(&ask(open, "").await), 200, "{open}");
    }
}

#[tokio::test]
async fn limits_of_tensors_and_parameters_can_be_set_and_follow_the_settings() {
    let name = "wide-requests";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let parameters: serde_json::Map<String, serde_json::Value> =
        (0..100).map(|at| (format!("p{at}"), json!(at))).collect();
    let body = json!({"parameters": parameters,
        "inputs": [{"name": "id", "datatype": "INT64", "shape": [1, 1], "data": [7]}]});
    let path = format!("/v2/models/{name}/infer");
    let refused = post(batcher.front, &path, body.to_string()).await;
    assert_eq!(refused.status, 400);
    assert!(refused.text().contains("maxParameters"), "{}", refused.text());
    let input =
        |at: usize| json!({"name": format!("i{at}"), "datatype": "INT64", "shape": [1, 1], "data": [7]});
    let wide = json!({"inputs": (0..300).map(input).collect::<Vec<_>>()}).to_string();
    let refused = post(batcher.front, &path, wide.clone()).await;
    assert!(refused.text().contains("maxTensors"), "{}", refused.text());
    let raised = with_settings!(
        (*batcher.settings.now()).clone(),
        limits.max_parameters = 128,
        limits.max_tensors = 512
    );
    sluice_batcher::settings::take_over(&batcher.settings, raised).unwrap();
    assert_eq!(post(batcher.front, &path, body.to_string()).await.output("twice"), [14]);
    assert_eq!(post(batcher.front, &path, wide).await.output("twice"), [14], "it reaches the server");
}

#[tokio::test]
async fn null_reaches_the_server_as_it_came() {
    let name = "nulls";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    let blocker = hold_with(&model, batcher.front, name, 100).await;
    let path = format!("/v2/models/{name}/infer");
    let bodies = [r#""id":null"#, r#""parameters":null"#, r#""parameters":{"a":null}"#].map(|field| {
        format!(r#"{{{field},"inputs":[{{"name":"id","datatype":"INT64","shape":[1,1],"data":[7]}}]}}"#)
    });
    let front = batcher.front;
    let asked: Vec<_> = bodies
        .iter()
        .map(|body| {
            let (path, body) = (path.clone(), body.clone());
            tokio::spawn(async move { post(front, &path, body).await })
        })
        .collect();
    until("all wait", async || {
        batcher.metric("sluice_batcher_queue_rows", &format!("model=\"{name}\"")).await == 3.0
    })
    .await;
    model.open_gate();
    blocker.await.unwrap();
    for asked in asked {
        assert_eq!(asked.await.unwrap().output("twice"), [14]);
    }
    let mut lengths: Vec<usize> = bodies.iter().map(String::len).collect();
    let calls = model.client_calls();
    let length =
        |call: &crate::model::Call| call.headers["content-length"].to_str().unwrap().parse().unwrap();
    let mut got: Vec<usize> = calls.iter().skip(1).map(length).collect();
    lengths.sort_unstable();
    got.sort_unstable();
    assert_eq!(got, lengths, "each alone, and nothing was written anew");
}

//! A model server at a Unix socket.

use sluice_batcher::with_settings;

use crate::barrier::kill_fifty_times;
use crate::client::{get, grpc_output, infer_binary, infer_grpc, infer_json};
use crate::model::{Behaviour, Model};
use crate::start::{settings, sidecar, start};

#[tokio::test]
async fn a_model_server_at_a_unix_socket_is_served_in_all_forms() {
    let name = "at-path";
    let dir = tempfile::tempdir().unwrap();
    let model = Model::start_at(&dir.path().join("m.sock"), name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    assert_eq!(infer_json(batcher.front, name, &[1]).await.output("twice"), [2]);
    assert_eq!(infer_binary(batcher.front, name, &[2, 3]).await.output("twice"), [4, 6]);
    assert_eq!(grpc_output(&infer_grpc(batcher.front, name, &[4]).await, "twice"), [8]);
    let passed = get(batcher.front, "/echo").await;
    assert_eq!(passed.status, 418, "what is not ours passes through");
    assert_eq!(batcher.upstreams().await["upstreams"][0]["address"], model.upstream());
}

#[tokio::test]
async fn a_model_server_that_speaks_grpc_only_may_be_at_a_unix_socket() {
    let name = "grpc-at-path";
    let dir = tempfile::tempdir().unwrap();
    let grpc_only = Behaviour { grpc_only: true, ..Behaviour::default() };
    let model = Model::start_at(&dir.path().join("m.sock"), name, grpc_only).await;
    let found_out = sidecar(&model, settings(name)).await;
    let told = start(with_settings!(settings(name), servers.upstream_grpc = Some(model.upstream()))).await;
    told.until_ready().await;
    for front in [found_out.front, told.front] {
        assert_eq!(infer_json(front, name, &[1]).await.output("twice"), [2]);
        assert_eq!(infer_binary(front, name, &[2, 3]).await.output("twice"), [4, 6]);
        assert_eq!(grpc_output(&infer_grpc(front, name, &[4]).await, "twice"), [8]);
    }
    assert!(model.calls().iter().all(|call| call.form == "grpc"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_kills_of_a_server_at_a_unix_socket_lose_nothing_either() {
    let name = "killed-at-path";
    let dir = tempfile::tempdir().unwrap();
    kill_fifty_times(name, Model::start_at(&dir.path().join("m.sock"), name, Behaviour::default()).await)
        .await;
}

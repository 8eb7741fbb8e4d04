//! The gateway role: model servers come and go, requests are held while there are none.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::json;
use sluice_batcher::settings::{Role, Settings};
use sluice_batcher::with_settings;

use crate::client::{get, infer_json};
use crate::model::{Behaviour, Model};
use crate::start::{settings, start, until};

pub fn gateway(name: &str, members: &Path) -> Settings {
    with_settings!(settings(name), servers.role = Role::Gateway, servers.members = Some(members.to_owned()))
}

/// As the owner of the file writes it: whole, by rename.
pub fn write_members(path: &Path, models: &[&Model]) {
    let upstreams: Vec<_> = models
        .iter()
        .map(|model| json!({"name": format!("m-{}", model.address.port()), "address": model.address.to_string()}))
        .collect();
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, json!({ "upstreams": upstreams }).to_string()).unwrap();
    std::fs::rename(&temporary, path).unwrap();
}

#[tokio::test]
async fn requests_are_held_while_there_is_no_server_and_then_served() {
    let name = "held";
    let dir = tempfile::tempdir().unwrap();
    let members = dir.path().join("members.json");
    let batcher = start(gateway(name, &members)).await;
    let label = format!("model=\"{name}\"");
    until("a gateway takes requests from the start", async || {
        get(batcher.admin, "/readyz").await.status == 200
    })
    .await;
    let held: Vec<_> = (1..=5)
        .map(|id| {
            let front = batcher.front;
            tokio::spawn(async move { infer_json(front, name, &[id]).await })
        })
        .collect();
    until("they are held", async || batcher.metric("sluice_batcher_queue_rows", &label).await == 5.0).await;
    assert_eq!(batcher.metric("sluice_batcher_demand_latched", &label).await, 1.0);
    assert_eq!(batcher.metric("sluice_batcher_demand_rows_total", &label).await, 5.0);
    let model = Model::start(name, Behaviour::default()).await;
    write_members(&members, &[&model]);
    for (id, request) in (1..).zip(held) {
        assert_eq!(request.await.unwrap().output("twice"), [id * 2]);
    }
    until("the demand is served", async || {
        batcher.metric("sluice_batcher_demand_latched", &label).await == 0.0
    })
    .await;
    assert_eq!(batcher.metric("sluice_batcher_slots", &label).await, 1.0);
}

#[tokio::test]
async fn a_hold_that_lasts_too_long_ends_with_503_and_a_retry_after() {
    let name = "forlorn";
    let dir = tempfile::tempdir().unwrap();
    let settings = with_settings!(
        gateway(name, &dir.path().join("none.json")),
        holding.hold_ms = 100,
        batching.objective_ms = 50
    );
    let batcher = start(settings).await;
    let got = infer_json(batcher.front, name, &[1]).await;
    assert_eq!(got.status, 503);
    assert!(got.text().contains("no model server"), "{}", got.text());
    assert!(got.headers.contains_key("retry-after"));
    let passed = get(batcher.front, "/v2/models/x").await;
    assert_eq!(passed.status, 503, "what passes through is held too");
    let label = format!("model=\"{name}\",reason=\"hold_expired\"");
    assert_eq!(batcher.metric("sluice_batcher_rejected_total", &label).await, 1.0);
}

#[tokio::test]
async fn while_the_only_server_restarts_clients_get_503_and_are_not_refused() {
    let name = "restarts-alone";
    let dir = tempfile::tempdir().unwrap();
    let members = dir.path().join("members.json");
    let mut model = Model::start(name, Behaviour::default()).await;
    write_members(&members, &[&model]);
    let batcher =
        start(with_settings!(gateway(name, &members), holding.hold_ms = 300, batching.objective_ms = 100))
            .await;
    batcher.until_ready().await;
    assert_eq!(infer_json(batcher.front, name, &[1]).await.output("twice"), [2]);
    // No process listens there any more, but it is still a member.
    model.kill();
    let got = infer_json(batcher.front, name, &[2]).await;
    assert_eq!(got.status, 503, "{}", got.text());
    assert!(got.headers.contains_key("retry-after"));
    model.restart().await;
    until("it is served again", async || infer_json(batcher.front, name, &[3]).await.status == 200).await;
}

#[tokio::test]
async fn a_model_that_one_of_two_servers_lacks_is_served_by_the_other_one() {
    let name = "only-here";
    let dir = tempfile::tempdir().unwrap();
    let members = dir.path().join("members.json");
    let has_it = Model::start(name, Behaviour::default()).await;
    let mut lacks_it = Model::start("only-there", Behaviour::default()).await;
    write_members(&members, &[&has_it]);
    let batcher = start(with_settings!(gateway(name, &members), models.models = vec![])).await;
    let front = batcher.front;
    assert_eq!(infer_json(front, name, &[1]).await.output("twice"), [2]);
    write_members(&members, &[&has_it, &lacks_it]);
    for epoch in 1..=2 {
        until("both are ready", async || {
            let state = batcher.upstreams().await;
            let list = state["upstreams"].as_array().unwrap();
            list.len() == 2
                && list.iter().all(|upstream| upstream["state"] == "ready")
                && list.iter().any(|upstream| {
                    upstream["address"] == lacks_it.address.to_string() && upstream["epoch"] == epoch
                })
        })
        .await;
        // While the only slot is busy, the rest waits for it.
        has_it.close_gate();
        let asked: Vec<_> =
            (1..=20).map(|id| tokio::spawn(async move { infer_json(front, name, &[id]).await })).collect();
        until("one is held", async || has_it.at_gate() == 1).await;
        let label = format!("model=\"{name}\"");
        until("the others wait", async || batcher.metric("sluice_batcher_queue_rows", &label).await >= 12.0)
            .await;
        has_it.open_gate();
        for (id, got) in (1..).zip(asked) {
            assert_eq!(got.await.unwrap().output("twice"), [id * 2]);
        }
        assert_eq!(batcher.metric("sluice_batcher_slots", &label).await, 1.0);
        if epoch == 1 {
            lacks_it.restart().await;
        }
    }
    // It has not been forgotten meanwhile, so it needs no other warm-up.
    let warmups = has_it.calls().iter().filter(|call| call.is_warmup()).count();
    assert_eq!(infer_json(front, name, &[7]).await.output("twice"), [14]);
    assert_eq!(has_it.calls().iter().filter(|call| call.is_warmup()).count(), warmups);
    write_members(&members, &[&lacks_it]);
    until("the one that has it is gone", async || {
        batcher.upstreams().await["upstreams"].as_array().unwrap().len() == 1
    })
    .await;
    assert_eq!(infer_json(front, name, &[1]).await.status, 404, "now nobody has it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_come_and_go_under_load_lose_nothing() {
    let name = "moving";
    let dir = tempfile::tempdir().unwrap();
    let members = dir.path().join("members.json");
    let one = Model::start(name, Behaviour::default()).await;
    let two = Model::start(name, Behaviour::default()).await;
    write_members(&members, &[&one]);
    let batcher = start(gateway(name, &members)).await;
    batcher.until_ready().await;
    let front = batcher.front;
    let stop = Arc::new(AtomicBool::new(false));
    let clients: Vec<_> = (1..=8)
        .map(|id| {
            let stop = Arc::clone(&stop);
            tokio::spawn(async move {
                while !stop.load(Ordering::SeqCst) {
                    assert_eq!(infer_json(front, name, &[id]).await.output("twice"), [id * 2]);
                }
            })
        })
        .collect();
    for round in 0..6 {
        let (stays, goes) = if round % 2 == 0 { (&two, &one) } else { (&one, &two) };
        write_members(&members, &[stays, goes]);
        let both = |state: &serde_json::Value| {
            let list = state["upstreams"].as_array().unwrap();
            list.len() == 2 && list.iter().all(|upstream| upstream["state"] == "ready")
        };
        until("both are ready", async || both(&batcher.upstreams().await)).await;
        let before = stays.client_calls().len();
        until("the new one is used", async || stays.client_calls().len() > before).await;
        write_members(&members, &[stays]);
        until("the removed one has drained and is forgotten", async || {
            batcher.upstreams().await["upstreams"].as_array().unwrap().len() == 1
        })
        .await;
        assert_eq!(goes.at_gate(), 0);
        let before = goes.client_calls().len();
        let passed = stays.client_calls().len();
        until("the other one goes on", async || stays.client_calls().len() > passed + 5).await;
        assert_eq!(goes.client_calls().len(), before, "nothing is sent to a removed member");
    }
    stop.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
}

//! Which request is served first: by class, then fair share, then deadline. Rows go one at a time, so that the model
//! server's journal shows the order.

use std::net::SocketAddr;

use http::HeaderValue;
use sluice_batcher::settings::Settings;
use sluice_batcher::with_settings;
use tokio::task::JoinHandle;

use crate::client::{Got, infer_json, json_body, post, request, send};
use crate::model::{Behaviour, Model};
use crate::start::{Batcher, hold_with, settings, sidecar, until};

/// The first request is held until all others wait. On a loaded machine that takes longer than an ordinary call may: the
/// call must not end before, nor a waiting request expire or be rejected because of it.
fn one_at_a_time(name: &str) -> Settings {
    const PATIENT_MS: u64 = 600_000;
    with_settings!(
        settings(name),
        batching.max_batch_rows = 1,
        batching.objective_ms = PATIENT_MS,
        servers.upstream_timeout_ms = PATIENT_MS,
        order.priority_levels = 3
    )
}

async fn infer_with(address: SocketAddr, name: &str, id: i64, headers: &[(&'static str, &str)]) -> Got {
    let mut request = request("POST", &format!("/v2/models/{name}/infer"), json_body(&[id]));
    for (header, value) in headers {
        request.headers_mut().insert(*header, HeaderValue::from_str(value).unwrap());
    }
    send(address, request).await
}

/// Requests that wait one after the other, behind one that holds the model server.
struct Line {
    name: &'static str,
    model: Model,
    batcher: Batcher,
    waiting: Vec<JoinHandle<Got>>,
}

impl Line {
    async fn start(name: &'static str, settings: Settings) -> Self {
        let model = Model::start(name, Behaviour::default()).await;
        let batcher = sidecar(&model, settings).await;
        let first = hold_with(&model, batcher.front, name, 1).await;
        Self { name, model, batcher, waiting: vec![first] }
    }

    async fn rows(&self) -> f64 {
        self.batcher.metric("sluice_batcher_queue_rows", &format!("model=\"{}\"", self.name)).await
    }

    /// Sends one and waits until it waits.
    async fn joined_by(&mut self, id: i64, headers: &'static [(&'static str, &'static str)]) {
        let (front, name, before) = (self.batcher.front, self.name, self.rows().await);
        self.waiting.push(tokio::spawn(async move { infer_with(front, name, id, headers).await }));
        let sent = self.waiting.len() - 1;
        until("it waits", async || self.rows().await > before || self.waiting[sent].is_finished()).await;
        if self.waiting[sent].is_finished() {
            let got = self.waiting.pop().unwrap().await.unwrap();
            panic!("request {id} was answered instead of waiting: {} {}", got.status, got.text());
        }
    }

    /// Lets all waiting requests be served; returns the order in which they were.
    async fn served(self) -> Vec<i64> {
        self.model.open_gate();
        for request in self.waiting {
            assert_eq!(request.await.unwrap().status, 200);
        }
        self.model.client_calls().into_iter().flat_map(|call| call.ids).collect()
    }
}

#[tokio::test]
async fn a_class_is_served_only_while_none_before_it_waits() {
    let mut line = Line::start("classes", one_at_a_time("classes")).await;
    line.joined_by(30, &[("x-sluice-priority", "3")]).await;
    line.joined_by(20, &[]).await;
    line.joined_by(31, &[("x-sluice-priority", "3")]).await;
    line.joined_by(10, &[("x-sluice-priority", "1")]).await;
    line.joined_by(21, &[("x-sluice-priority", "9")]).await;
    assert_eq!(
        line.served().await,
        [1, 10, 20, 21, 30, 31],
        "none and one that there is not are the middle one"
    );
}

#[tokio::test]
async fn the_parameter_names_the_class_too_and_the_header_wins() {
    let name = "parameter";
    let mut line = Line::start(name, one_at_a_time(name)).await;
    line.joined_by(20, &[]).await;
    let body = |id: i64| {
        format!(
            r#"{{"parameters":{{"priority":1}},"inputs":[{{"name":"id","datatype":"INT64","shape":[1,1],"data":[{id}]}}]}}"#
        )
    };
    let (front, path) = (line.batcher.front, format!("/v2/models/{name}/infer"));
    line.waiting.push(tokio::spawn({
        let (path, body) = (path.clone(), body(10));
        async move { post(front, &path, body).await }
    }));
    until("it waits", async || line.rows().await == 2.0).await;
    line.waiting.push(tokio::spawn(async move {
        let mut request = request("POST", &path, body(30));
        request.headers_mut().insert("x-sluice-priority", HeaderValue::from_static("3"));
        send(front, request).await
    }));
    until("it waits", async || line.rows().await == 3.0).await;
    assert_eq!(line.served().await, [1, 10, 20, 30]);
}

#[tokio::test]
async fn work_of_a_lower_class_refuses_nobody() {
    let name = "not-refused";
    let model = Model::start(name, Behaviour { alpha_us: 100_000.into(), ..Behaviour::default() }).await;
    let batcher = sidecar(&model, one_at_a_time(name)).await;
    let front = batcher.front;
    model.close_gate();
    let label = format!("model=\"{name}\"");
    let mut waiting = vec![tokio::spawn(infer_json(front, name, &[1]))];
    until("the first is at the model", async || model.at_gate() == 1).await;
    for id in 2..32 {
        waiting.push(tokio::spawn(async move { infer_json(front, name, &[id]).await }));
    }
    until("all wait", async || batcher.metric("sluice_batcher_queue_rows", &label).await == 30.0).await;
    // 30 batches of 100 ms and more each wait: an answer within 2 s is possible only before them.
    let hurry = &[("x-request-timeout-ms", "2000")];
    let refused = infer_with(front, name, 100, hurry).await;
    assert_eq!(refused.status, 429, "{}", refused.text());
    let high = tokio::spawn(async move {
        infer_with(front, name, 101, &[("x-request-timeout-ms", "2000"), ("x-sluice-priority", "1")]).await
    });
    until("it waits", async || batcher.metric("sluice_batcher_queue_rows", &label).await == 31.0).await;
    model.open_gate();
    // Whether it makes its 2 s depends on this machine; that it was let in does not.
    high.await.unwrap();
    for request in waiting {
        request.await.unwrap();
    }
}

#[tokio::test]
async fn tenants_take_turns_however_much_one_of_them_sends() {
    let name = "tenants";
    let weights = [("c".to_owned(), 2)].into();
    let mut line =
        Line::start(name, with_settings!(one_at_a_time(name), order.tenant_weights = weights)).await;
    for id in [100, 101, 102, 103, 104, 105] {
        line.joined_by(id, &[("x-sluice-tenant", "a")]).await;
    }
    for id in [200, 201] {
        line.joined_by(id, &[("x-sluice-tenant", "b")]).await;
    }
    for id in [300, 301, 302, 303] {
        line.joined_by(id, &[("x-sluice-tenant", "c")]).await;
    }
    let order = line.served().await;
    let whose: Vec<i64> = order.iter().skip(1).map(|id| id / 100).collect();
    for (tenant, within_first_8) in [(1, 2), (2, 2), (3, 4)] {
        let served = whose[..8].iter().filter(|&&of| of == tenant).count();
        assert_eq!(served, within_first_8, "weights 1, 1 and 2: {order:?}");
    }
    assert_eq!(whose[8..], [1, 1, 1, 1], "who waits alone gets everything");
}

#[tokio::test]
async fn a_tenant_finds_room_in_a_queue_that_another_one_floods() {
    let name = "room";
    let settings = with_settings!(one_at_a_time(name), limits.queue_requests = 18);
    let mut line = Line::start(name, settings).await;
    for id in 100..116 {
        line.joined_by(id, &[("x-sluice-tenant", "a")]).await;
    }
    let flood = infer_with(line.batcher.front, name, 116, &[("x-sluice-tenant", "a")]).await;
    assert_eq!(flood.status, 429);
    assert!(flood.text().contains("the tenant's part"), "{}", flood.text());
    line.joined_by(200, &[("x-sluice-tenant", "b")]).await;
    assert_eq!(line.served().await[..4], [1, 100, 200, 101]);
}

#[tokio::test]
async fn the_earliest_deadline_goes_first_whoever_names_it() {
    let mut line = Line::start("deadlines", one_at_a_time("deadlines")).await;
    line.joined_by(5, &[]).await;
    line.joined_by(4, &[("x-request-timeout-ms", "50000")]).await;
    line.joined_by(3, &[("grpc-timeout", "40S")]).await;
    line.joined_by(2, &[("grpc-timeout", "50S"), ("x-request-timeout-ms", "30000")]).await;
    assert_eq!(line.served().await, [1, 2, 3, 4, 5]);
}

#[tokio::test]
async fn a_header_that_cannot_be_read_is_400_with_its_name() {
    let name = "bad-header";
    let model = Model::start(name, Behaviour::default()).await;
    let batcher = sidecar(&model, settings(name)).await;
    for (header, value) in
        [("x-sluice-priority", "high"), ("x-request-timeout-ms", "1.5"), ("grpc-timeout", "soon")]
    {
        let got = infer_with(batcher.front, name, 1, &[(header, value)]).await;
        assert_eq!(got.status, 400);
        assert!(got.text().contains(header) && got.text().contains(value), "{}", got.text());
    }
    assert!(model.client_calls().is_empty());
    assert_eq!(infer_with(batcher.front, name, 1, &[("x-sluice-priority", "7")]).await.status, 200);
}

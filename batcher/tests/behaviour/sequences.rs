//! Sequences behind a gateway: all steps of one go to the server that has its state, or nowhere.

use std::net::SocketAddr;

use http::HeaderValue;
use serde_json::{Value, json};
use sluice_batcher::settings::{Role, Settings};
use sluice_batcher::with_settings;
use sluice_protocol::grpc::{self, InferParameter, infer_parameter::ParameterChoice};
use tempfile::TempDir;

use crate::client::{Got, grpc, grpc_output, infer_json, infer_message, post, request, send};
use crate::gateway::{gateway, write_members};
use crate::model::{Behaviour, Model};
use crate::start::{Batcher, settings, sidecar, start, until};

const START: (bool, bool) = (true, false);
const GOES_ON: (bool, bool) = (false, false);
const END: (bool, bool) = (false, true);

fn parameters(id: &Value, (starts, ends): (bool, bool)) -> Value {
    let mut parameters = json!({"sequence_id": id});
    if starts {
        parameters["sequence_start"] = true.into();
    }
    if ends {
        parameters["sequence_end"] = true.into();
    }
    parameters
}

fn body(id: &Value, step: (bool, bool)) -> Value {
    json!({"parameters": parameters(id, step),
        "inputs": [{"name": "id", "datatype": "INT64", "shape": [1, 1], "data": [7]}]})
}

/// Through `POST …/infer`, in JSON.
async fn json_step(front: SocketAddr, name: &str, id: &Value, step: (bool, bool)) -> Got {
    post(front, &format!("/v2/models/{name}/infer"), body(id, step).to_string()).await
}

async fn binary_step(front: SocketAddr, name: &str, id: &Value, step: (bool, bool)) -> Got {
    let head = json!({"parameters": parameters(id, step), "inputs": [{"name": "id", "datatype": "INT64",
        "shape": [1, 1], "parameters": {"binary_data_size": 8}}]})
    .to_string();
    let sent = [head.as_bytes(), &7_i64.to_le_bytes()].concat();
    let mut request = request("POST", &format!("/v2/models/{name}/infer"), sent);
    request.headers_mut().insert("inference-header-content-length", HeaderValue::from(head.len()));
    send(front, request).await
}

fn message(name: &str, id: &Value, (starts, ends): (bool, bool)) -> grpc::ModelInferRequest {
    let mut message = infer_message(name, &[7]);
    let id = match id {
        Value::String(id) => ParameterChoice::StringParam(id.clone()),
        id => ParameterChoice::Int64Param(id.as_i64().unwrap()),
    };
    let flags = [("sequence_start", starts), ("sequence_end", ends)];
    let flags = flags.map(|(name, value)| (name, ParameterChoice::BoolParam(value)));
    for (name, choice) in [("sequence_id", id)].into_iter().chain(flags) {
        message.parameters.insert(name.into(), InferParameter { parameter_choice: Some(choice) });
    }
    message
}

async fn grpc_step(front: SocketAddr, name: &str, id: &Value, step: (bool, bool)) -> Got {
    grpc(front, grpc::path::MODEL_INFER, &message(name, id, step)).await
}

fn stateful() -> Behaviour {
    Behaviour { stateful: true, ..Behaviour::default() }
}

/// Two servers of one model, ready behind a gateway.
struct Bench {
    name: &'static str,
    one: Model,
    two: Model,
    batcher: Batcher,
    front: SocketAddr,
    members: std::path::PathBuf,
    _dir: TempDir,
}

impl Bench {
    async fn start(name: &'static str) -> Self {
        Self::with(name, Settings::default()).await
    }

    async fn with(name: &'static str, own: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let members = dir.path().join("members.json");
        let one = Model::start(name, stateful()).await;
        let two = Model::start(name, stateful()).await;
        write_members(&members, &[&one, &two]);
        let common = gateway(name, &members);
        let settings = with_settings!(
            own,
            servers.role = Role::Gateway,
            servers.members = common.servers.members,
            models.models = common.models.models,
            batching.max_batch_rows = common.batching.max_batch_rows,
            batching.objective_ms = common.batching.objective_ms,
            servers.probe_ms = common.servers.probe_ms,
            holding.hold_ms = common.holding.hold_ms
        );
        let batcher = start(settings).await;
        let bench = Self { name, one, two, front: batcher.front, batcher, members, _dir: dir };
        bench.until_both_are_ready().await;
        bench
    }

    async fn until_both_are_ready(&self) {
        let label = format!("model=\"{}\"", self.name);
        until("both have slots", async || self.batcher.metric("sluice_batcher_slots", &label).await == 2.0)
            .await;
    }

    async fn step(&self, id: &Value, step: (bool, bool)) -> Got {
        json_step(self.front, self.name, id, step).await
    }

    /// The server that has this sequence, and the other one.
    fn home_first(&mut self, id: &Value) -> (&mut Model, &mut Model) {
        let id = id.to_string();
        let has = |model: &Model| model.steps().iter().any(|step| step.sequence == id);
        match has(&self.one) {
            true => (&mut self.one, &mut self.two),
            false => (&mut self.two, &mut self.one),
        }
    }
}

#[tokio::test]
async fn four_sequences_of_twenty_steps_each_stay_where_they_began_in_every_form() {
    let bench = Bench::start("seq-sticks").await;
    let (front, name) = (bench.front, bench.name);
    let ids = [json!(11), json!(12), json!("call-13"), json!("14")];
    for number in 1..=20 {
        let step = (number == 1, number == 20);
        for (at, id) in ids.iter().enumerate() {
            // The form may change from step to step: it is the same sequence.
            let got = match (at + number) % 3 {
                0 => json_step(front, name, id, step).await.output("twice"),
                1 => {
                    let got = binary_step(front, name, id, step).await;
                    assert_eq!(got.status, 200, "{}", got.text());
                    got.output("twice")
                }
                _ => grpc_output(&grpc_step(front, name, id, step).await, "twice"),
            };
            assert_eq!(got, [number as i64], "step {number} of {id}");
            // Between the steps both servers are used by others.
            infer_json(front, name, &[1]).await;
        }
    }
    for id in ids.map(|id| id.to_string()) {
        let steps = |model: &Model| model.steps().iter().filter(|step| step.sequence == id).count();
        assert!([(20, 0), (0, 20)].contains(&(steps(&bench.one), steps(&bench.two))), "{id}");
    }
}

#[tokio::test]
async fn a_sequence_whose_server_is_lost_ends_with_an_error_that_says_so_and_may_begin_anew() {
    let mut bench = Bench::start("seq-lost").await;
    let id = json!(5);
    assert_eq!(bench.step(&id, START).await.output("twice"), [1]);
    assert_eq!(bench.step(&id, GOES_ON).await.output("twice"), [2]);
    let name = bench.name;
    let (home, other) = bench.home_first(&id);
    // Back at once, as a new server: its state is gone all the same.
    home.restart().await;
    let before = other.steps().len();
    bench.until_epoch(2).await;
    for _ in 0..2 {
        let got = bench.step(&id, GOES_ON).await;
        assert_eq!(got.status, 409, "{}", got.text());
        assert!(got.text().contains("sequence 5") && got.text().contains("sequence_start"), "{}", got.text());
        assert_eq!(grpc_step(bench.front, name, &id, END).await.grpc_status(), 10, "ABORTED");
    }
    let (home, other) = bench.home_first(&id);
    assert_eq!(other.steps().len(), before, "no step has gone to the other one");
    assert!(home.steps().iter().all(|step| step.epoch == 1), "nor to the new one");
    assert_eq!(bench.step(&id, START).await.output("twice"), [1]);
    assert_eq!(bench.step(&id, END).await.output("twice"), [2]);
}

#[tokio::test]
async fn a_sequence_whose_server_is_removed_ends_too() {
    let mut bench = Bench::start("seq-removed").await;
    let id = json!("removed");
    assert_eq!(bench.step(&id, START).await.output("twice"), [1]);
    let members = bench.members.clone();
    let (_, other) = bench.home_first(&id);
    write_members(&members, &[other]);
    until("one is left", async || {
        bench.batcher.upstreams().await["upstreams"].as_array().unwrap().len() == 1
    })
    .await;
    assert_eq!(bench.step(&id, GOES_ON).await.status, 409);
    assert_eq!(bench.step(&id, START).await.output("twice"), [1], "anywhere");
}

#[tokio::test]
async fn a_step_without_a_known_start_is_refused_where_several_servers_may_have_it() {
    let bench = Bench::start("seq-unknown").await;
    let got = bench.step(&json!(9), GOES_ON).await;
    assert_eq!(got.status, 409, "{}", got.text());
    assert!(got.text().contains("sequence 9"), "{}", got.text());
    assert_eq!(bench.step(&json!(9), START).await.output("twice"), [1]);
    assert_eq!(bench.step(&json!(9), END).await.output("twice"), [2]);
    assert_eq!(bench.step(&json!(9), GOES_ON).await.status, 409, "it has ended");
    // None at all, and the words for none.
    for none in [json!(0), json!("")] {
        assert_eq!(bench.step(&none, GOES_ON).await.status, 200);
    }
    assert_eq!(bench.one.steps().len() + bench.two.steps().len(), 4);
}

#[tokio::test]
async fn with_one_server_a_step_without_a_known_start_passes() {
    let name = "seq-alone";
    let model = Model::start(name, stateful()).await;
    let batcher = sidecar(&model, settings(name)).await;
    for number in 1..=3 {
        assert_eq!(json_step(batcher.front, name, &json!(1), GOES_ON).await.output("twice"), [number]);
    }
}

#[tokio::test]
async fn a_body_that_is_passed_on_unread_belongs_to_its_sequence_all_the_same() {
    let bench = Bench::start("seq-unread").await;
    let path = format!("/v2/models/{}/infer", bench.name);
    for number in 1..=6 {
        let mut odd = body(&json!(21), (number == 1, false));
        // Not a datatype of the protocol: whether it is one is for the model server to say.
        odd["inputs"][0]["datatype"] = "INT64X".into();
        assert_eq!(post(bench.front, &path, odd.to_string()).await.output("twice"), [number]);
        infer_json(bench.front, bench.name, &[1]).await;
    }
}

#[tokio::test]
async fn steps_that_come_at_once_are_sent_one_after_the_other_and_others_overtake_them() {
    let bench = Bench::start("seq-order").await;
    let (front, name) = (bench.front, bench.name);
    let id = json!(31);
    assert_eq!(bench.step(&id, START).await.output("twice"), [1]);
    let gates = [&bench.one, &bench.two];
    gates.iter().for_each(|model| model.close_gate());
    let held = || bench.one.at_gate() + bench.two.at_gate();
    let mut steps = Vec::new();
    let label = format!("model=\"{name}\"");
    for waiting in 0..4 {
        let id = id.clone();
        steps.push(tokio::spawn(async move { json_step(front, name, &id, GOES_ON).await }));
        until("it is at the server, or waits", async || {
            held() == 1
                && bench.batcher.metric("sluice_batcher_queue_rows", &label).await == f64::from(waiting)
        })
        .await;
    }
    // The other server is free for others.
    let other = tokio::spawn(async move { infer_json(front, name, &[4]).await });
    until("another request is at the other server", async || held() == 2).await;
    gates.iter().for_each(|model| model.open_gate());
    assert_eq!(other.await.unwrap().output("twice"), [8]);
    for (number, step) in (2..).zip(steps) {
        assert_eq!(step.await.unwrap().output("twice"), [number]);
    }
}

#[tokio::test]
async fn a_step_in_flight_when_its_server_dies_is_not_sent_again() {
    let mut bench = Bench::start("seq-broken").await;
    let (front, name, id) = (bench.front, bench.name, json!(41));
    assert_eq!(bench.step(&id, START).await.output("twice"), [1]);
    let (home, _) = bench.home_first(&id);
    home.close_gate();
    let asked = id.clone();
    let step = tokio::spawn(async move { json_step(front, name, &asked, GOES_ON).await });
    until("it is at its server", async || bench.one.at_gate() + bench.two.at_gate() == 1).await;
    let (home, other) = bench.home_first(&id);
    let (calls, steps) = (home.client_calls().len(), other.steps().len());
    home.restart().await;
    home.open_gate();
    assert_eq!(step.await.unwrap().status, 502);
    assert_eq!(bench.step(&id, GOES_ON).await.status, 409);
    bench.until_epoch(2).await;
    assert_eq!(bench.step(&id, GOES_ON).await.status, 409);
    let (home, other) = bench.home_first(&id);
    assert_eq!((home.client_calls().len(), other.steps().len()), (calls, steps));
}

#[tokio::test]
async fn a_tenant_that_opens_sequences_without_end_evicts_its_own() {
    let own = with_settings!(Settings::default(), sequences.max_sequences = 8);
    let bench = Bench::with("seq-flood", own).await;
    let path = format!("/v2/models/{}/infer", bench.name);
    let step = async |tenant: &'static str, id: i64, step| {
        let mut request = request("POST", &path, body(&json!(id), step).to_string());
        request.headers_mut().insert("x-sluice-tenant", HeaderValue::from_static(tenant));
        send(bench.front, request).await
    };
    assert_eq!(step("quiet", 1, START).await.output("twice"), [1]);
    for id in 100..150 {
        assert_eq!(step("flood", id, START).await.output("twice"), [1]);
    }
    assert_eq!(step("quiet", 1, GOES_ON).await.output("twice"), [2]);
    assert_eq!(step("flood", 149, GOES_ON).await.output("twice"), [2]);
    assert_eq!(step("flood", 100, GOES_ON).await.status, 409, "an error, never another server");
}

#[tokio::test]
async fn a_stream_cannot_go_on_with_a_sequence_that_began_elsewhere() {
    let bench = Bench::start("seq-stream").await;
    let method = "/inference.GRPCInferenceService/ModelStreamInfer";
    assert_eq!(bench.step(&json!(51), START).await.output("twice"), [1]);
    let before = bench.one.steps().len() + bench.two.steps().len();
    let got = grpc(bench.front, method, &message(bench.name, &json!(51), GOES_ON)).await;
    assert_eq!(got.grpc_status(), 10, "{got:?}");
    assert_eq!(bench.one.steps().len() + bench.two.steps().len(), before);
    let got = grpc(bench.front, method, &message(bench.name, &json!(52), START)).await;
    assert_eq!(grpc_output(&got, "twice"), [1]);
}

impl Bench {
    async fn until_epoch(&self, number: u64) {
        until("the new server is ready", async || {
            let state = self.batcher.upstreams().await;
            let list = state["upstreams"].as_array().unwrap();
            list.iter().all(|upstream| upstream["state"] == "ready")
                && list.iter().any(|upstream| upstream["epoch"] == number)
        })
        .await;
        self.until_both_are_ready().await;
    }
}

#[tokio::test]
async fn a_sequence_of_a_model_without_a_queue_is_refused() {
    let bench = Bench::with("seq-no-queue", with_settings!(Settings::default(), models.max_models = 1)).await;
    // Both servers have it, and the only queue is that of the model in the settings, which stays.
    let too = "seq-no-queue-too";
    for step in [START, GOES_ON, END] {
        let got = json_step(bench.front, too, &json!(61), step).await;
        assert_eq!(got.status, 501, "{}", got.text());
        let got = binary_step(bench.front, too, &json!("s"), step).await;
        assert_eq!(got.status, 501, "{}", got.text());
    }
    let at_servers = || {
        let path = format!("POST /v2/models/{too}/infer");
        bench.one.asked(&path) + bench.two.asked(&path)
    };
    assert_eq!(at_servers(), 0);
    assert_eq!(infer_json(bench.front, too, &[1]).await.status, 200, "what is no step passes through");
    assert_eq!(at_servers(), 1);
    // No server has this one: the model server says so.
    let got = json_step(bench.front, "seq-nowhere", &json!(61), START).await;
    assert_eq!(got.status, 404, "{}", got.text());
    assert!(got.text().contains("says the model server"), "{}", got.text());
}

#[tokio::test]
async fn steps_wait_for_their_server_though_another_one_is_free() {
    let mut bench = Bench::start("seq-busy").await;
    let (front, name, id) = (bench.front, bench.name, json!(71));
    assert_eq!(bench.step(&id, START).await.output("twice"), [1]);
    // Both servers are held, and then the other one is let go: nothing but the step waits.
    [&bench.one, &bench.two].iter().for_each(|model| model.close_gate());
    let mut others = Vec::new();
    for id in 1..=2 {
        others.push(tokio::spawn(async move { infer_json(front, name, &[id]).await }));
        // One after the other, or they would share a batch.
        until("it is at a server", async || bench.one.at_gate() + bench.two.at_gate() == others.len()).await;
    }
    let asked = id.clone();
    let step = tokio::spawn(async move { json_step(front, name, &asked, GOES_ON).await });
    let label = format!("model=\"{name}\"");
    until("it waits", async || bench.batcher.metric("sluice_batcher_queue_rows", &label).await == 1.0).await;
    let (_, other) = bench.home_first(&id);
    other.open_gate();
    for id in 3..=6 {
        assert_eq!(infer_json(front, name, &[id]).await.output("twice"), [2 * id], "the free server is used");
    }
    assert!(!step.is_finished());
    let (home, _) = bench.home_first(&id);
    home.open_gate();
    assert_eq!(step.await.unwrap().output("twice"), [2]);
    for other in others {
        assert_eq!(other.await.unwrap().status, 200);
    }
}

#[tokio::test]
async fn a_step_without_a_known_start_does_not_wait_for_whichever_server_comes() {
    let name = "seq-from-none";
    let dir = tempfile::tempdir().unwrap();
    let batcher = start(gateway(name, &dir.path().join("members.json"))).await;
    let got = json_step(batcher.front, name, &json!(81), GOES_ON).await;
    assert_eq!(got.status, 409, "{}", got.text());
}

//! The webhook as an API server meets it: TLS on the loopback interface, trusted by the CA that it made itself.

#![allow(clippy::unwrap_used, reason = "tests may panic")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::{Value, json};
use sluice_config::names::pod as names;
use sluice_preloader::certificates::{Bundle, Served};
use sluice_preloader::inject::Sidecar;
use sluice_preloader::inject::resources::{Resources, Share};
use sluice_preloader::webhook::lookup::Lookup;
use sluice_preloader::webhook::{Webhook, serve};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

const NAME: &str = "sluice-preloader.sluice-system.svc";

/// A cluster with these classes claimed, and one Service that passes sidecars by.
struct Cluster(Result<Vec<String>, String>);

#[async_trait]
impl Lookup for Cluster {
    async fn claimed_classes(&self, _: &str, _: &Pod) -> Result<Vec<String>, String> {
        self.0.clone()
    }

    async fn services(&self, namespace: &str) -> Vec<Service> {
        assert_eq!(namespace, "models");
        let service = json!({
            "metadata": { "name": "past" },
            "spec": { "selector": { "app": "bert" }, "ports": [{ "port": 80, "targetPort": 9000 }] },
        });
        vec![serde_json::from_value(service).unwrap()]
    }
}

struct Running {
    address: SocketAddr,
    served: Arc<Served>,
    bundle: Bundle,
    stop: CancellationToken,
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

async fn start(classes: Result<Vec<String>, String>) -> Running {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let bundle = Bundle::new(&[NAME.to_owned()], now_s(), None).unwrap();
    let served = Arc::new(Served::default());
    served.set(bundle.certified_key().unwrap());
    let sidecar = Sidecar {
        image: "batcher:1".into(),
        pull_secret: None,
        resources: Resources {
            cpu: Share { request: Quantity("50m".into()), limit: Some(Quantity("1".into())) },
            memory: Share { request: Quantity("64Mi".into()), limit: Some(Quantity("1Gi".into())) },
        },
        drain_deadline_ms: 25_000,
        propagation_ms: 2_000,
    };
    let webhook =
        Webhook { sidecar, namespace: "sluice-system".to_owned(), lookup: Arc::new(Cluster(classes)) };
    let stop = CancellationToken::new();
    tokio::spawn(serve(listener, webhook, Arc::clone(&served), stop.clone()));
    Running { address, served, bundle, stop }
}

/// Connects as somebody who trusts these CAs.
async fn connect(
    address: SocketAddr,
    trusted: &str,
) -> std::io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(trusted.as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from(NAME).unwrap(), stream).await
}

impl Running {
    async fn post(&self, path: &str, body: impl Into<Bytes>) -> (StatusCode, String) {
        let stream = connect(self.address, self.bundle.ca_certificates()).await.unwrap();
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        let request = Request::post(format!("https://{NAME}{path}")).body(Full::new(body.into())).unwrap();
        let response = sender.send_request(request).await.unwrap();
        let status = response.status();
        (status, String::from_utf8(response.collect().await.unwrap().to_bytes().to_vec()).unwrap())
    }

    /// The answer to a review of this pod, and the pod after its patch.
    async fn review(&self, path: &str, pod: &Value) -> (Value, Value) {
        let (status, body) = self.post(path, review(pod).to_string()).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let answer: Value = serde_json::from_str(&body).unwrap();
        assert_eq!(answer["kind"], "AdmissionReview");
        let response = answer["response"].clone();
        assert_eq!(response["uid"], "7");
        let mut patched = pod.clone();
        if let Some(bytes) = response["patch"].as_array() {
            let bytes: Vec<u8> = bytes.iter().map(|byte| byte.as_u64().unwrap() as u8).collect();
            let patch: json_patch::Patch = serde_json::from_slice(&bytes).unwrap();
            json_patch::patch(&mut patched, &patch).unwrap();
        }
        (response, patched)
    }
}

fn review(pod: &Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "7",
            "kind": { "group": "", "version": "v1", "kind": "Pod" },
            "resource": { "group": "", "version": "v1", "resource": "pods" },
            "namespace": "models",
            "operation": "CREATE",
            "userInfo": {},
            "object": pod,
            "dryRun": true,
        },
    })
}

fn pod() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": { "generateName": "bert-", "labels": { "app": "bert", names::INJECT_LABEL: "enabled" } },
        "spec": {
            "resourceClaims": [{ "name": "slice", "resourceClaimTemplateName": "bert" }],
            "containers": [{ "name": "model", "image": "m", "ports": [{ "name": "http", "containerPort": 9000 }] }],
            "aFieldOfTomorrow": { "kept": true },
        },
    })
}

fn ours() -> Result<Vec<String>, String> {
    Ok(vec!["mig-2g-10gb.gpu.sluice.dev".to_owned()])
}

#[tokio::test]
async fn an_opted_in_pod_gets_its_sidecar_and_its_gate_and_keeps_what_it_has() {
    let webhook = start(ours()).await;
    let (response, with_sidecar) = webhook.review("/mutate-sidecar", &pod()).await;
    assert_eq!(response["allowed"], true);
    assert_eq!(with_sidecar["spec"]["initContainers"][0]["name"], names::SIDECAR);
    assert_eq!(with_sidecar["spec"]["aFieldOfTomorrow"], json!({ "kept": true }));
    let (_, gated) = webhook.review("/mutate-gate", &with_sidecar).await;
    assert_eq!(gated["spec"]["schedulingGates"], json!([{ "name": names::GATE }]));
    let (again, same) = webhook.review("/mutate-sidecar", &gated).await;
    assert_eq!((again["patch"].clone(), same), (Value::Null, gated));
    let token = |pod: &Value| pod["spec"]["initContainers"][0]["env"][0]["value"].clone();
    let (_, another) = webhook.review("/mutate-sidecar", &pod()).await;
    assert_ne!(token(&another), token(&with_sidecar), "each pod has a token of its own");
}

#[tokio::test]
async fn a_pod_that_cannot_have_its_sidecar_is_refused_with_the_fields_name() {
    let webhook = start(ours()).await;
    let mut ambiguous = pod();
    let second = json!({ "name": "second", "ports": [{ "name": "http", "containerPort": 9001 }] });
    ambiguous["spec"]["containers"].as_array_mut().unwrap().push(second);
    let (response, _) = webhook.review("/mutate-sidecar", &ambiguous).await;
    assert_eq!(response["allowed"], false);
    let message = response["status"]["message"].as_str().unwrap();
    assert!(
        message.starts_with("spec.containers[1].ports[0].name: the port \"http\" is ambiguous"),
        "{message}"
    );
    let (gate, _) = webhook.review("/mutate-gate", &ambiguous).await;
    assert_eq!(gate["allowed"], true, "the gate's webhook refuses nothing");
}

#[tokio::test]
async fn a_pod_that_did_not_opt_in_is_left_alone() {
    let webhook = start(ours()).await;
    let mut other = pod();
    other["metadata"]["labels"][names::INJECT_LABEL] = json!("disabled");
    for path in ["/mutate-sidecar", "/mutate-gate"] {
        let (response, same) = webhook.review(path, &other).await;
        assert_eq!((response["allowed"].clone(), same), (json!(true), other.clone()));
    }
}

#[tokio::test]
async fn a_claim_that_cannot_be_read_costs_the_gate_and_not_the_pod() {
    let webhook = start(Err("claim \"slice\": no answer within 2s".to_owned())).await;
    let (response, same) = webhook.review("/mutate-gate", &pod()).await;
    assert_eq!((response["allowed"].clone(), same), (json!(true), pod()));
    assert!(response["warnings"][0].as_str().unwrap().contains("no answer within 2s"), "{response}");
}

#[tokio::test]
async fn a_service_past_the_sidecar_is_warned_of() {
    let webhook = start(ours()).await;
    let (response, _) = webhook.review("/mutate-sidecar", &pod()).await;
    let warning = response["warnings"][0].as_str().unwrap();
    assert!(warning.contains("Service past: spec.ports[0].targetPort is 9000"), "{warning}");
}

#[tokio::test]
async fn what_somebody_probably_meant_is_warned_of_and_never_refused() {
    let webhook = start(ours()).await;
    let warnings = async |review: Value| {
        let (status, body) = webhook.post("/hints", review.to_string()).await;
        assert_eq!(status, StatusCode::OK, "{body}");
        let response = serde_json::from_str::<Value>(&body).unwrap()["response"].clone();
        assert_eq!((&response["allowed"], &response["patch"]), (&json!(true), &Value::Null));
        response["warnings"].to_string()
    };
    assert_eq!(warnings(review(&pod())).await, "null");
    let mut labelled = pod();
    labelled["metadata"]["labels"][names::INJECT_LABEL] = json!("true");
    labelled["spec"]["schedulingGates"] = json!([{ "name": names::GATE }]);
    let told = warnings(review(&labelled)).await;
    assert!(
        told.contains("did you mean \\\"enabled\\\"?") && told.contains("this pod is never placed"),
        "{told}"
    );
    let mut left_alone = review(&pod());
    left_alone["request"]["namespace"] = json!("kube-system");
    assert!(warnings(left_alone).await.contains("kube-system is left alone"));
    // A workload's author reads what is said of its template; what is said of its pods, nobody reads.
    let mut refused = pod();
    refused["spec"]["containers"][0]["ports"] = json!([]);
    refused["metadata"]["annotations"] = json!({ "sluice.dev/model": "bert" });
    let template = json!({ "metadata": refused["metadata"], "spec": refused["spec"] });
    for (kind, spec, field) in [
        ("Deployment", json!({ "template": template }), "in spec.template: "),
        (
            "CronJob",
            json!({ "jobTemplate": { "spec": { "template": template } } }),
            "in spec.jobTemplate.spec.template: ",
        ),
    ] {
        let mut asked =
            review(&json!({ "apiVersion": "apps/v1", "kind": kind, "metadata": {}, "spec": spec }));
        asked["request"]["kind"] = json!({ "group": "apps", "version": "v1", "kind": kind });
        let told = warnings(asked).await;
        assert!(
            told.contains(&format!("{field}its pods will be refused: spec.containers: no container has")),
            "{told}"
        );
        assert!(told.contains("did you mean sluice.dev/models?"), "{told}");
    }
}

#[tokio::test]
async fn an_injected_pod_is_warned_of_what_passes_its_sidecar_by() {
    let webhook = start(ours()).await;
    let mut pod = pod();
    pod["metadata"]["annotations"] = json!({ "sluice.dev/objective": "300" });
    let grpc = json!({ "name": "grpc", "containerPort": 9001 });
    pod["spec"]["containers"][0]["ports"].as_array_mut().unwrap().push(grpc);
    let (response, _) = webhook.review("/mutate-sidecar", &pod).await;
    let warnings = response["warnings"].to_string();
    for part in ["Service past", "ports[1] (9001) of the model's container", "sluice.dev/objective-ms?"] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
}

#[tokio::test]
async fn what_is_no_review_is_answered_in_words() {
    let webhook = start(ours()).await;
    for (body, word) in
        [("", "not an AdmissionReview"), ("{}", "not an AdmissionReview"), ("[1]", "not an AdmissionReview")]
    {
        let (status, text) = webhook.post("/mutate-sidecar", body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert!(text.contains(word), "{body}: {text}");
    }
    let empty = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview" }).to_string();
    let (status, text) = webhook.post("/mutate-gate", empty).await;
    assert_eq!((status, text.contains("no request")), (StatusCode::BAD_REQUEST, true), "{text}");
    let (status, text) = webhook.post("/mutate", "").await;
    assert_eq!((status, text.contains("/mutate-gate")), (StatusCode::NOT_FOUND, true), "{text}");
    let (status, _) = webhook.post("/mutate-gate", vec![b' '; 9 << 20]).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
}

#[tokio::test]
async fn only_who_trusts_its_ca_talks_to_it_and_a_renewed_certificate_is_served_at_once() {
    let webhook = start(ours()).await;
    let stranger = Bundle::new(&[NAME.to_owned()], now_s(), None).unwrap();
    assert!(connect(webhook.address, stranger.ca_certificates()).await.is_err());
    let before = certificate(&webhook).await;
    let renewed = webhook.bundle.renewed(&[NAME.to_owned()], now_s()).unwrap();
    webhook.served.set(renewed.certified_key().unwrap());
    assert_ne!(certificate(&webhook).await, before, "the same CA vouches for another certificate");
    // A new CA: whoever was told of it trusts both.
    let next = Bundle::new(&[NAME.to_owned()], now_s(), Some(&webhook.bundle)).unwrap();
    connect(webhook.address, next.ca_certificates()).await.unwrap();
    webhook.served.set(next.certified_key().unwrap());
    connect(webhook.address, next.ca_certificates()).await.unwrap();
}

async fn certificate(webhook: &Running) -> Vec<u8> {
    let stream = connect(webhook.address, webhook.bundle.ca_certificates()).await.unwrap();
    stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
}

#[tokio::test]
async fn a_stop_ends_idle_connections() {
    let webhook = start(ours()).await;
    let stream = connect(webhook.address, webhook.bundle.ca_certificates()).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::handshake::<_, _, Full<Bytes>>(
        TokioExecutor::new(),
        TokioIo::new(stream),
    )
    .await
    .unwrap();
    let ended = tokio::spawn(connection);
    let request = Request::get(format!("https://{NAME}/mutate-gate")).body(Full::default()).unwrap();
    let refused = sender.send_request(request).await.unwrap();
    assert_eq!(refused.status(), StatusCode::METHOD_NOT_ALLOWED);
    webhook.stop.cancel();
    tokio::time::timeout(std::time::Duration::from_secs(30), ended).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn silent_clients_make_room_for_the_api_server() {
    let webhook = start(ours()).await;
    let mut silent = Vec::new();
    for _ in 0..600 {
        silent.push(TcpStream::connect(webhook.address).await.unwrap());
    }
    // Connections whose handshake is done, and that ask nothing, are as idle.
    for _ in 0..20 {
        let stream = connect(webhook.address, webhook.bundle.ca_certificates()).await.unwrap();
        silent.push(stream.into_inner().0);
    }
    let (response, _) = webhook.review("/mutate-gate", &pod()).await;
    assert_eq!(response["allowed"], true);
    let mut byte = [0];
    let oldest = tokio::io::AsyncReadExt::read(&mut silent[0], &mut byte).await;
    assert!(matches!(oldest, Ok(0) | Err(_)), "the oldest was closed");
}

/// Its kubeconfig names an API server that does not answer.
#[tokio::test]
async fn silent_clients_of_the_admin_port_and_a_hangup_change_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let text = "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{name: a, cluster: {server: \"http://127.0.0.1:1\"}}]\n\
                users: [{name: a, user: {}}]\ncontexts: [{name: a, context: {cluster: a, user: a}}]\n";
    std::fs::write(&kubeconfig, text).unwrap();
    let admin = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let log = folder.path().join("log");
    let mut program = tokio::process::Command::new(env!("CARGO_BIN_EXE_sluice-preloader"))
        .args(["--mode", "watchdog", "--admin-listen", &admin.to_string()])
        .env("KUBECONFIG", &kubeconfig)
        .stdin(std::process::Stdio::null())
        .stderr(std::fs::File::create(&log).unwrap())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let log = || std::fs::read_to_string(&log).unwrap();
    until(async || TcpStream::connect(admin).await.is_ok()).await;
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(TcpStream::connect(admin).await.unwrap());
    }
    let lives = async || {
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake(TokioIo::new(TcpStream::connect(admin).await.unwrap()))
                .await
                .unwrap();
        tokio::spawn(connection);
        let request = Request::get("/livez").header("host", "x").body(Full::<Bytes>::default()).unwrap();
        sender.send_request(request).await.is_ok_and(|answer| answer.status() == StatusCode::OK)
    };
    assert!(lives().await);
    let pid = rustix::process::Pid::from_raw(i32::try_from(program.id().unwrap()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::HUP).unwrap();
    until(async || log().contains("SIGHUP changes nothing")).await;
    assert!(lives().await && log().contains("limit of open files"), "{}", log());
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert!(program.wait().await.unwrap().success(), "{}", log());
}

async fn until(condition: impl AsyncFn() -> bool) {
    for _ in 0..3000 {
        if condition().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("it never happened");
}

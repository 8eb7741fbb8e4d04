//! Permissions of Sluice's accounts, tried with their own tokens, and of its users by Kubernetes' roles.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use http::Method;
use kube::config::{AuthInfo, KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};
use sluice_config::names::{DRIVER, SYSTEM_NAMESPACE, pod as names};

use super::sample::{NAME, PODS, Sample};
use super::{Namespace, pods};
use crate::cluster::{Cluster, Look};
use crate::images;

/// Time within which pods must run and grants must hold.
const WITHIN: Duration = Duration::from_secs(60);
/// Third-party gate, which keeps pods gated for as long as the scenario needs.
const FOREIGN_GATE: &str = "testbed.sluice.dev/hold";
/// Policy on pods.
const GATES_ONLY: &str = "sluice-preloader-gates-only";
/// Policy on webhook configurations.
const TRUST_ONLY: &str = "sluice-preloader-trust-only";
/// Policy on Secrets.
const OWN_SECRET: &str = "sluice-preloader-own-secret";
/// Policy on replicas.
const WITHIN_BOUNDS: &str = "sluice-autoscaler-within-bounds";
/// Policy on the namespaces whose replicas may be set.
const NOT_OF_SYSTEM: &str = "sluice-autoscaler-not-of-the-system";
/// Policy on ResourceSlices.
const OWN_NODE: &str = "sluice-driver-own-node";
/// Path of the webhook's configuration, for dry runs only: a mistake here must not break the cluster for later
/// scenarios.
const CONFIGURATION: &str =
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/sluice-preloader?dryRun=All";

/// Client of the API server with the token of an account.
struct Account {
    name: String,
    client: Client,
}

impl Account {
    /// Creates a client with a token of the service account; `more` are further arguments of `kubectl create token`.
    async fn new(cluster: &Cluster, namespace: &str, name: &str, more: &[&str]) -> Result<Self> {
        let mut arguments = vec!["-n", namespace, "create", "token", name];
        arguments.extend(more);
        let token = cluster.kubectl(&arguments).await?.trim().to_owned();
        let path = cluster.workdir().kubeconfig();
        let mut kubeconfig = Kubeconfig::read_from(&path).with_context(|| path.display().to_string())?;
        for user in &mut kubeconfig.auth_infos {
            user.auth_info = Some(AuthInfo { token: Some(token.clone().into()), ..AuthInfo::default() });
        }
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
        Ok(Self { name: name.to_owned(), client: Client::try_from(config)? })
    }

    /// Sends one request; a list is sent as a JSON patch, an object as it is.
    async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value, kube::Error> {
        let content_type = if body.is_array() { "application/json-patch+json" } else { "application/json" };
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = http::Request::builder()
            .method(method)
            .uri(path)
            .header(http::header::CONTENT_TYPE, content_type)
            .body(bytes)
            .map_err(kube::Error::HttpError)?;
        self.client.request(request).await
    }

    async fn patch(&self, path: &str, operations: &Value) -> Result<Value, kube::Error> {
        self.send(Method::PATCH, path, operations).await
    }

    /// Fails unless the request is rejected by `because`.
    async fn is_refused(&self, method: Method, path: &str, body: &Value, because: &Refusal) -> Result<()> {
        let account = &self.name;
        let status = match self.send(method, path, body).await {
            Ok(_) => bail!("{account} was allowed: {path} {body}"),
            Err(kube::Error::Api(status)) => status,
            Err(error) => return Err(error).with_context(|| format!("{account}: {path}")),
        };
        let as_expected = match because {
            Refusal::Policy(policy) => {
                status.message.contains(&format!("ValidatingAdmissionPolicy '{policy}'"))
            }
            Refusal::NoGrant => status.code == 403 && status.message.contains("cannot"),
            Refusal::Kubernetes => status.code == 422,
        };
        ensure!(as_expected, "{account} was not rejected by {because:?}: {path} {body}: {}", status.message);
        Ok(())
    }
}

/// Authority that rejects a request.
#[derive(Debug)]
enum Refusal {
    /// A policy of Sluice.
    Policy(&'static str),
    /// RBAC: no role grants it.
    NoGrant,
    /// Kubernetes' own rules for the object.
    Kubernetes,
}

/// Preloader and watchdog may change gates, trust and their own objects, and nothing else.
pub(super) async fn preloader(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "accounts-preloader").await?;
    for account in ["sluice-preloader", "sluice-preloader-watchdog"] {
        let account = Account::new(&cluster, SYSTEM_NAMESPACE, account, &[]).await?;
        pods_of_others(&cluster, &account, &namespace).await.with_context(|| account.name.clone())?;
    }
    let preloader = Account::new(&cluster, SYSTEM_NAMESPACE, "sluice-preloader", &[]).await?;
    trust(&preloader).await?;
    secrets_and_leases(&preloader).await?;
    let watchdog = Account::new(&cluster, SYSTEM_NAMESPACE, "sluice-preloader-watchdog", &[]).await?;
    nothing_of_the_preloaders(&watchdog).await?;
    namespace.remove().await
}

async fn pods_of_others(cluster: &Cluster, account: &Account, namespace: &Namespace) -> Result<()> {
    let opted_in = json!({ names::INJECT_LABEL: names::INJECT_ENABLED });
    let both = [FOREIGN_GATE, names::GATE, names::GATE_ALIAS];
    let opted_in = gated("opted-in", opted_in, &both).to_string();
    // Just after an installation the webhook's Service may have no endpoint yet.
    cluster
        .wait_for("a pod that opts in is taken", WITHIN, || async {
            namespace.apply(&opted_in).await.map(Look::Done)
        })
        .await?;
    namespace.apply(&gated("outside", json!({}), &both).to_string()).await?;
    namespace.apply(&gated("ungated", json!({}), &[]).to_string()).await?;
    let path = |pod: &str| format!("/api/v1/namespaces/{}/pods/{pod}", namespace.name);
    let policy = Refusal::Policy(GATES_ONLY);
    let replace = |path: &str, value: Value| json!([{ "op": "replace", "path": path, "value": value }]);
    let add = |path: &str, value: Value| json!([{ "op": "add", "path": path, "value": value }]);
    let remove = |gate: usize| json!([{ "op": "remove", "path": format!("/spec/schedulingGates/{gate}") }]);
    let owner = json!([{ "apiVersion": "v1", "kind": "ConfigMap", "name": "x", "uid": "3f1c" }]);
    for pod in ["opted-in", "outside", "ungated"] {
        for patch in [
            replace("/spec/containers/0/image", json!("example.com/other:1")),
            add("/metadata/labels/app", json!("other")),
            add("/metadata/annotations", json!({ "a": "b" })),
            add("/metadata/finalizers", json!(["testbed.sluice.dev/stays"])),
            add("/metadata/ownerReferences", owner.clone()),
            add("/spec/tolerations/-", json!({ "key": "a", "operator": "Exists" })),
            add("/spec/activeDeadlineSeconds", json!(5)),
        ] {
            account.is_refused(Method::PATCH, &path(pod), &patch, &policy).await?;
        }
        account.is_refused(Method::DELETE, &path(pod), &Value::Null, &Refusal::NoGrant).await?;
        for subresource in ["status", "ephemeralcontainers", "resize"] {
            let path = format!("{}/{subresource}", path(pod));
            account.is_refused(Method::PATCH, &path, &json!([]), &Refusal::NoGrant).await?;
        }
        let eviction = json!({ "apiVersion": "policy/v1", "kind": "Eviction", "metadata": { "name": pod } });
        let evicting = format!("{}/eviction", path(pod));
        account.is_refused(Method::POST, &evicting, &eviction, &Refusal::NoGrant).await?;
    }
    // Kubernetes lets a client narrow the placement of a gated pod; the preloader never does.
    let narrower = add("/spec/nodeSelector/more", json!("x"));
    account.is_refused(Method::PATCH, &path("opted-in"), &narrower, &policy).await?;
    account.is_refused(Method::PATCH, &path("outside"), &narrower, &policy).await?;
    account.is_refused(Method::PATCH, &path("ungated"), &narrower, &Refusal::Kubernetes).await?;
    account.is_refused(Method::PATCH, &path("opted-in"), &remove(0), &policy).await?;
    account.is_refused(Method::PATCH, &path("outside"), &remove(2), &policy).await?;
    // Changes that the account is there for. The last gate first, because later positions move up.
    account.patch(&path("opted-in"), &remove(2)).await.context("the short gate of a pod that opted in")?;
    account.patch(&path("opted-in"), &remove(1)).await.context("the gate of a pod that opted in")?;
    account.patch(&path("outside"), &remove(1)).await.context("the gate of a pod that did not opt in")?;
    for pod in ["opted-in", "outside", "ungated"] {
        namespace.kubectl(&["delete", "pod", pod, "--wait", "--grace-period=0", "--force"]).await?;
    }
    Ok(())
}

/// Returns a pod that is never placed.
fn gated(name: &str, labels: Value, gates: &[&str]) -> Value {
    let mut labels = labels;
    labels["testbed.sluice.dev/pod"] = json!(name);
    let gates: Vec<Value> = gates.iter().map(|gate| json!({ "name": gate })).collect();
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": { "name": name, "labels": labels },
        "spec": {
            "schedulingGates": gates,
            "nodeSelector": { "testbed.sluice.dev/no-such-node": "x" },
            "containers": [{
                "name": "model", "image": images::reference("sluice-loadtest"), "args": ["model"],
                "ports": [{ "name": "http", "containerPort": 9000 }],
            }],
        },
    })
}

async fn trust(preloader: &Account) -> Result<()> {
    let replace = |path: &str, value: Value| json!([{ "op": "replace", "path": path, "value": value }]);
    let add = |path: &str, value: Value| json!([{ "op": "add", "path": path, "value": value }]);
    for patch in [
        replace("/webhooks/0/rules/0/resources", json!(["secrets"])),
        replace("/webhooks/0/namespaceSelector", json!({})),
        replace("/webhooks/1/objectSelector", json!({})),
        replace("/webhooks/1/failurePolicy", json!("Ignore")),
        replace("/webhooks/1/clientConfig", json!({ "url": "https://example.com/" })),
        replace("/webhooks/1/clientConfig/service/path", json!("/other")),
        add("/webhooks/0/matchConditions", json!([{ "name": "never", "expression": "false" }])),
        add("/metadata/annotations", json!({ "a": "b" })),
        json!([{ "op": "remove", "path": "/webhooks/0" }]),
    ] {
        preloader.is_refused(Method::PATCH, CONFIGURATION, &patch, &Refusal::Policy(TRUST_ONLY)).await?;
    }
    let untrusted = json!([{ "op": "remove", "path": "/webhooks/1/clientConfig/caBundle" }]);
    preloader.patch(CONFIGURATION, &untrusted).await.context("its webhook's caBundle")?;
    let all = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations";
    let another = json!({
        "apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
        "metadata": { "name": "another" },
    });
    preloader.is_refused(Method::POST, all, &another, &Refusal::NoGrant).await?;
    preloader.is_refused(Method::PATCH, &format!("{all}/another"), &json!([]), &Refusal::NoGrant).await?;
    preloader.is_refused(Method::DELETE, CONFIGURATION, &Value::Null, &Refusal::NoGrant).await
}

async fn secrets_and_leases(preloader: &Account) -> Result<()> {
    let secrets = format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets");
    let making = |name: &str, type_: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": type_,
            "metadata": { "name": name, "annotations": { "kubernetes.io/service-account.name": "sluice-driver" } },
        })
    };
    let policy = Refusal::Policy(OWN_SECRET);
    preloader.is_refused(Method::POST, &secrets, &making("another", "Opaque"), &policy).await?;
    let token = making("sluice-preloader-tls", "kubernetes.io/service-account-token");
    preloader.is_refused(Method::POST, &secrets, &token, &policy).await?;
    preloader.is_refused(Method::GET, &format!("{secrets}/another"), &Value::Null, &Refusal::NoGrant).await?;
    preloader.is_refused(Method::GET, &secrets, &Value::Null, &Refusal::NoGrant).await?;
    let elsewhere = "/api/v1/namespaces/kube-system/secrets";
    preloader.is_refused(Method::POST, elsewhere, &making("another", "Opaque"), &Refusal::NoGrant).await?;
    let own = format!("{secrets}/sluice-preloader-tls");
    preloader.send(Method::GET, &own, &Value::Null).await.context("its own Secret")?;
    let lease =
        format!("/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases/sluice-autoscaler");
    preloader.is_refused(Method::GET, &lease, &Value::Null, &Refusal::NoGrant).await
}

async fn nothing_of_the_preloaders(watchdog: &Account) -> Result<()> {
    let none = Refusal::NoGrant;
    let lease = format!("/apis/coordination.k8s.io/v1/namespaces/{SYSTEM_NAMESPACE}/leases/sluice-preloader");
    watchdog.send(Method::GET, &lease, &Value::Null).await.context("the preloader's Lease")?;
    watchdog.is_refused(Method::PATCH, &lease, &json!([]), &none).await?;
    watchdog.is_refused(Method::PATCH, CONFIGURATION, &json!([]), &none).await?;
    let secret = format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets/sluice-preloader-tls");
    watchdog.is_refused(Method::GET, &secret, &Value::Null, &none).await?;
    watchdog.is_refused(Method::GET, "/apis/resource.k8s.io/v1/resourceslices", &Value::Null, &none).await
}

/// The autoscaler may scale within the bounds of InferenceAutoscalers, the driver may publish for its own node.
pub(super) async fn autoscaler_and_driver(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "accounts-autoscaler").await?;
    let mut sample = Sample::read(&cluster)?.replicas(0)?;
    let autoscaler_object = sample.object("InferenceAutoscaler")?.clone();
    namespace.apply(&sample.without("InferenceAutoscaler").list()).await?;
    let autoscaler = Account::new(&cluster, SYSTEM_NAMESPACE, "sluice-autoscaler", &[]).await?;
    let scale = format!("/apis/apps/v1/namespaces/{}/deployments/{NAME}/scale?dryRun=All", namespace.name);
    let to = |replicas: u32| json!([{ "op": "add", "path": "/spec/replicas", "value": replicas }]);
    let policy = Refusal::Policy(WITHIN_BOUNDS);
    // Other pods are not delayed by it.
    namespace.kubectl(&["scale", &format!("deployment/{NAME}"), "--replicas=0"]).await?;
    for (namespace, deployment) in [("kube-system", "coredns"), (SYSTEM_NAMESPACE, "sluice-preloader")] {
        let system =
            format!("/apis/apps/v1/namespaces/{namespace}/deployments/{deployment}/scale?dryRun=All");
        autoscaler.is_refused(Method::PATCH, &system, &to(1), &Refusal::Policy(NOT_OF_SYSTEM)).await?;
    }
    namespace.apply(&autoscaler_object.to_string()).await?;
    cluster
        .wait_for("the autoscaler may not leave the bounds", WITHIN, || async {
            autoscaler.is_refused(Method::PATCH, &scale, &to(9), &policy).await.map(Look::Done)
        })
        .await?;
    autoscaler.patch(&scale, &to(8)).await.context("within the bounds")?;
    namespace.remove().await?;
    driver(&cluster).await
}

async fn driver(cluster: &Cluster) -> Result<()> {
    let label = "app.kubernetes.io/name=sluice-driver";
    let pod = pods::only(cluster, SYSTEM_NAMESPACE, label).await?;
    let node = pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).context("a pod without a node")?;
    let bound = ["--bound-object-kind", "Pod", "--bound-object-name", pods::name(&pod)];
    let driver = Account::new(cluster, SYSTEM_NAMESPACE, "sluice-driver", &bound).await?;
    let unbound = Account::new(cluster, SYSTEM_NAMESPACE, "sluice-driver", &[]).await?;
    let slices = "/apis/resource.k8s.io/v1/resourceslices";
    let slice = |name: &str, node: &str, pool: &str, driver: &str| {
        json!({
            "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": { "name": name },
            "spec": {
                "driver": driver, "nodeName": node,
                "pool": { "name": pool, "generation": 99, "resourceSliceCount": 1 },
                "devices": [{ "name": "gpu-0" }],
            },
        })
    };
    let own_pool = format!("{node}/gpu");
    let policy = Refusal::Policy(OWN_NODE);
    let making = format!("{slices}?dryRun=All");
    for wrong in [
        slice("elsewhere", "elsewhere", "elsewhere/gpu", DRIVER),
        slice("elsewhere", &node, "elsewhere/gpu", DRIVER),
        slice("elsewhere", &node, &own_pool, "gpu.example.com"),
    ] {
        driver.is_refused(Method::POST, &making, &wrong, &policy).await?;
    }
    let own = slice("own", &node, &own_pool, DRIVER);
    unbound.is_refused(Method::POST, &making, &own, &policy).await?;
    driver.send(Method::POST, &making, &own).await.context("a slice of its own node")?;
    cluster.apply(&slice("elsewhere", "elsewhere", "elsewhere/gpu", DRIVER).to_string()).await?;
    let others = format!("{slices}/elsewhere");
    let refused = async {
        driver.is_refused(Method::DELETE, &others, &Value::Null, &policy).await?;
        let mut taken = driver.send(Method::GET, &others, &Value::Null).await?;
        taken["spec"]["devices"] = json!([]);
        driver.is_refused(Method::PUT, &others, &taken, &policy).await
    }
    .await;
    cluster.kubectl(&["delete", "resourceslice", "elsewhere"]).await?;
    refused
}

/// Kubernetes' own roles in a namespace suffice for its users.
pub(super) async fn users(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "accounts-users").await?;
    for role in ["view", "edit"] {
        namespace.kubectl(&["create", "serviceaccount", role]).await?;
        let account = format!("{}:{role}", namespace.name);
        let (cluster_role, account) =
            (format!("--clusterrole={role}"), format!("--serviceaccount={account}"));
        namespace.kubectl(&["create", "rolebinding", role, &cluster_role, &account]).await?;
    }
    let view = Account::new(&cluster, namespace.name, "view", &[]).await?;
    let edit = Account::new(&cluster, namespace.name, "edit", &[]).await?;
    let mut object = Sample::read(&cluster)?.object("InferenceAutoscaler")?.clone();
    object["metadata"]["namespace"] = json!(namespace.name);
    let all = format!("/apis/sluice.dev/v1alpha1/namespaces/{}/inferenceautoscalers", namespace.name);
    let (one, status) = (format!("{all}/{NAME}"), format!("{all}/{NAME}/status"));
    cluster
        .wait_for("the roles are aggregated", WITHIN, || async {
            edit.send(Method::POST, &all, &object).await?;
            Ok(Look::Done(()))
        })
        .await?;
    for account in [&view, &edit] {
        for path in [&all, &one, &status] {
            let read = account.send(Method::GET, path, &Value::Null).await;
            read.with_context(|| format!("{} reads {path}", account.name))?;
        }
        account.is_refused(Method::PATCH, &status, &json!([]), &Refusal::NoGrant).await?;
    }
    view.is_refused(Method::POST, &all, &object, &Refusal::NoGrant).await?;
    view.is_refused(Method::DELETE, &one, &Value::Null, &Refusal::NoGrant).await?;
    let elsewhere = "/apis/sluice.dev/v1alpha1/namespaces/default/inferenceautoscalers";
    object["metadata"]["namespace"] = json!("default");
    edit.is_refused(Method::POST, elsewhere, &object, &Refusal::NoGrant).await?;
    edit.send(Method::DELETE, &one, &Value::Null).await.context("edit removes it again")?;
    namespace.remove().await
}

/// The sample works as it is shipped in a namespace where every container must have limits, and QoS classes do not
/// change.
pub(super) async fn quota(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "quota-on-limits").await?;
    let quota = json!({
        "apiVersion": "v1", "kind": "ResourceQuota", "metadata": { "name": "limits" },
        "spec": { "hard": { "limits.cpu": "20", "limits.memory": "20Gi", "requests.cpu": "4", "requests.memory": "4Gi" } },
    });
    namespace.apply(&quota.to_string()).await?;
    let mut sample = Sample::read(&cluster)?.without("InferenceAutoscaler").replicas(1)?;
    let template = sample.object("Deployment")?["spec"]["template"].clone();
    sample.start(&namespace, WITHIN * 2).await?;
    let pod = pods::only(&cluster, namespace.name, PODS).await?;
    let pod = serde_json::to_value(&pod)?;
    let used = namespace
        .kubectl(&["get", "resourcequota", "limits", "-o", "jsonpath={.status.used.limits\\.cpu}"])
        .await?;
    ensure!(used == "3", "the sample's limits of CPU are {used}, not 2 and the sidecar's 1");
    ensure!(pod["status"]["qosClass"] == "Burstable", "the class is {}", pod["status"]["qosClass"]);

    let mut guaranteed = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": template["metadata"], "spec": template["spec"] });
    guaranteed["metadata"]["name"] = json!("guaranteed");
    let whole = json!({ "cpu": "500m", "memory": "256Mi" });
    guaranteed["spec"]["containers"][0]["resources"]["requests"] = whole.clone();
    guaranteed["spec"]["containers"][0]["resources"]["limits"] = whole;
    let admitted = namespace.dry_run(&guaranteed.to_string()).await?;
    ensure!(
        admitted["status"]["qosClass"] == "Guaranteed",
        "the class is {}",
        admitted["status"]["qosClass"]
    );
    namespace.remove().await
}

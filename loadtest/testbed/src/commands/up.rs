//! Brings a cluster up: first programs, files and namespaces; then, inside the namespaces, everything that runs in it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;

use crate::cli::UpFlags;
use crate::cluster::{Cluster, Look};
use crate::contents::{dns, fake_nodes, install, prometheus};
use crate::harness::evidence;
use crate::host::leftovers::Leftovers;
use crate::host::namespaces;
use crate::host::requirements;
use crate::images::{self, model_server};
use crate::node::components::{self, NODE_NAME};
use crate::node::{pki, simulated_gpus};
use crate::programs::binaries::{self, Found, Sources};
use crate::programs::parts::{self, Program};
use crate::workdir::{Spec, Workdir};

/// Time limit for the control plane to become ready.
const API_WITHIN: Duration = Duration::from_secs(60);
/// Time limit for the node to become ready.
const NODE_WITHIN: Duration = Duration::from_secs(60);
/// Time limit for CoreDNS to become ready.
const DNS_WITHIN: Duration = Duration::from_secs(60);
/// Folders below the cluster's own.
const FOLDERS: [&str; 7] = ["bin", "etc", "log", "kubelet", "cni/networks", "containerd", "driver"];
/// Settings of Prometheus, from the folder of the manifests.
const PROMETHEUS_SETTINGS: &str = "../prometheus/prometheus.yaml";
/// Programs of this tree that run beside the cluster or are started by hand.
const AT_HAND: [&str; 3] = ["kubectl-sluice", "sluice-loadtest", "sluice-testbed"];

/// Brings a cluster up and installs its contents.
///
/// # Errors
/// When the machine lacks something, or a part does not come up. Processes that run by then are left for inspection.
pub(crate) fn up(workdir: &Workdir, flags: &UpFlags, bin_dir: &Path) -> Result<()> {
    let start = Instant::now();
    requirements::check(flags.prometheus, flags.network_policies)?;
    if workdir.running().is_ok() {
        bail!(
            "cluster {name} is up already; `cargo e2e -- down --name {name}` takes it away",
            name = workdir.name()
        );
    }
    let left = Leftovers::of(workdir)?;
    if !left.is_empty() {
        bail!(
            "of an earlier cluster {name} there still are {left}; `cargo e2e -- down --name {name}` removes them",
            name = workdir.name()
        );
    }
    let needed = !flags.no_install || flags.prometheus;
    let manifests = needed.then(|| install::manifests(flags.manifests.clone())).transpose()?;
    let settings =
        manifests.as_ref().filter(|_| flags.prometheus).map(|folder| folder.join(PROMETHEUS_SETTINGS));
    let sources = Sources::of_environment(flags.binaries.clone())?;
    let model_server = flags.model_server.then(|| model_server::environment(&sources.cache)).transpose()?;
    let spec = Spec {
        model_server,
        kubernetes: flags.kubernetes,
        gpus: flags.gpus,
        gpu_model: flags.gpu_model.clone(),
        kwok_nodes: flags.kwok_nodes,
        prometheus: flags.prometheus,
        network_policies: flags.network_policies,
        manifests: manifests.filter(|_| !flags.no_install),
        bin_dir: bin_dir.to_owned(),
    };
    let mut parts = parts::all(spec.kubernetes.release());
    parts.extend(spec.network_policies.then(parts::policy_engine));
    let mut programs = sources.find_or_build(&parts)?;
    programs.extend(own_programs(bin_dir));
    if spec.prometheus {
        let path = requirements::find_in_path("prometheus").context("prometheus is gone from PATH")?;
        programs.push(Found { program: Program { file: "prometheus", package: "" }, path });
    }
    prepare(workdir, &spec, &programs, settings.as_deref())?;
    say(
        start,
        &format!("Kubernetes {} starts in {}", spec.kubernetes.release().version(), workdir.root().display()),
    );
    let arguments = ["node", "--name"].map(OsStr::new);
    let name = workdir.name().to_string();
    let arguments: Vec<&OsStr> = arguments.into_iter().chain([OsStr::new(&name)]).collect();
    let own = std::env::current_exe().context("/proc/self/exe")?;
    let record = namespaces::create(workdir, &own, &arguments, &workdir.path("log/node.log"))?;
    workdir.write_record(&record)?;
    let status = namespaces::inside(&record, workdir, own.as_os_str())
        .args(["provision", "--name", &name])
        .status()
        .context("cannot start nsenter (Debian: util-linux)")?;
    if !status.success() {
        bail!(
            "cluster {name} is not complete. It is left for a look: logs are in {}; \
             `cargo e2e -- exec --name {name} kubectl get pods -A`, `cargo e2e -- down --name {name}`",
            workdir.text("log")
        );
    }
    say(start, "up");
    println!("\n{}", usage(workdir, &spec));
    Ok(())
}

/// Waits for the node and installs everything into the cluster. Runs inside the namespaces.
///
/// # Errors
/// When something does not become ready, with its last state. Evidence is kept.
pub(crate) async fn provision(workdir: &Workdir) -> Result<()> {
    let cluster = Cluster::connect(workdir.clone()).await?;
    match fill(workdir, &cluster).await {
        Ok(()) => Ok(()),
        Err(error) => Err(evidence::keep(&cluster, "up", error).await),
    }
}

async fn fill(workdir: &Workdir, cluster: &Cluster) -> Result<()> {
    let start = Instant::now();
    let spec = workdir.spec()?;
    // Images need containerd alone.
    let importing = tokio::task::spawn_blocking({
        let (workdir, spec) = (workdir.clone(), spec.clone());
        move || {
            let imported = import(&workdir, &spec.bin_dir)?;
            if let Some(environment) = &spec.model_server {
                model_server::import(&workdir, environment)?;
            }
            anyhow::Ok(imported)
        }
    });
    cluster.wait_api(API_WITHIN).await?;
    say(start, "the API server is ready");
    let accounts: Api<ServiceAccount> = Api::default_namespaced(cluster.client());
    cluster
        .wait_for("the default service account is there", API_WITHIN, || async {
            Ok(accounts
                .get_opt("default")
                .await?
                .map_or(Look::NotYet("it is not".to_owned()), |_| Look::Done(())))
        })
        .await?;
    cluster.wait_node(NODE_NAME, NODE_WITHIN).await?;
    say(start, "the node is Ready");
    let imported = importing.await.context("the import ended early")??;
    say(start, &format!("{imported} images are imported"));
    dns::install(cluster).await?;
    fake_nodes::create(cluster, spec.kwok_nodes).await?;
    cluster.wait_rollout("kube-system", "deployment/coredns", DNS_WITHIN).await?;
    say(start, "DNS is ready");
    if let Some(manifests) = &spec.manifests {
        install::install(cluster, manifests).await?;
        say(start, "Sluice is installed");
    }
    Ok(())
}

/// Imports all images, and returns their number.
///
/// # Errors
/// When containerd does not come up, or refuses one.
pub(crate) fn import(workdir: &Workdir, bin_dir: &Path) -> Result<usize> {
    let start = Instant::now();
    let socket = components::Prerequisite::Socket(workdir.path("containerd.sock"));
    while !socket.is_met() {
        if start.elapsed() > NODE_WITHIN {
            bail!("containerd does not listen; its log is {}", workdir.text("log/containerd.log"));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    let (sources, missing) = images::sources(bin_dir, &workdir.program("coredns"));
    for name in missing {
        println!("no image of {name}: it is not in {}", bin_dir.display());
    }
    for source in &sources {
        images::import(workdir, source)?;
    }
    Ok(sources.len())
}

fn prepare(
    workdir: &Workdir,
    spec: &Spec,
    programs: &[Found],
    prometheus_settings: Option<&Path>,
) -> Result<()> {
    let root = workdir.root();
    // Fails if it exists: of two processes that bring up the same cluster only one may continue.
    fs::create_dir(root).with_context(|| format!("cannot make {}", root.display()))?;
    let written = write_files(workdir, spec, programs, prometheus_settings);
    if written.is_err() {
        // Nothing runs there yet that would be worth inspecting.
        let _ = fs::remove_dir_all(root);
    }
    written
}

fn write_files(
    workdir: &Workdir,
    spec: &Spec,
    programs: &[Found],
    prometheus_settings: Option<&Path>,
) -> Result<()> {
    for folder in FOLDERS {
        fs::create_dir_all(workdir.path(folder))
            .with_context(|| format!("cannot make {}", workdir.text(folder)))?;
    }
    binaries::link(programs, &workdir.path("bin"))?;
    simulated_gpus::install(workdir, &spec.bin_dir, &spec.gpu_model, spec.gpus)?;
    pki::write(workdir)?;
    components::write_settings(workdir, spec)?;
    if let Some(settings) = prometheus_settings {
        prometheus::write_settings(workdir, settings)?;
    }
    workdir.write_spec(spec)
}

fn own_programs(bin_dir: &Path) -> Vec<Found> {
    let found = |file: &'static str| {
        let path: PathBuf = bin_dir.join(file);
        path.exists().then_some(Found { program: Program { file, package: "" }, path })
    };
    AT_HAND.into_iter().filter_map(found).collect()
}

fn usage(workdir: &Workdir, spec: &Spec) -> String {
    let name = workdir.name();
    let option =
        if name.to_string() == crate::cli::DEFAULT_NAME { String::new() } else { format!(" --name {name}") };
    let mut text = format!(
        "Run programs in it:   cargo e2e -- exec{option} kubectl get nodes\n\
         Its kubeconfig:       {kubeconfig} (its network can be reached with exec only)\n\
         Its logs:             {logs}\n",
        kubeconfig = workdir.kubeconfig().display(),
        logs = workdir.text("log"),
    );
    if spec.manifests.is_some() {
        text.push_str(&format!(
            "Try the sample:       cargo e2e -- exec{option} kubectl apply -f config/samples/bert-inference.yaml\n\
             \x20                     cargo e2e -- exec{option} kubectl get pods,inferenceautoscalers\n\
             \x20                     cargo e2e -- exec{option} kubectl sluice capacity\n"
        ));
    }
    text.push_str(&format!("Take it away:         cargo e2e -- down{option}"));
    text
}

fn say(start: Instant, what: &str) {
    println!("{:6.1} s  {what}", start.elapsed().as_secs_f64());
}

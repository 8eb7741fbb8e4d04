//! The injected sidecar in front of a model server that is not ours: MLServer, as it comes from its package.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};

use super::Namespace;
use super::sample::{self, Journal, Sample};
use crate::cluster::{Cluster, Look};
use crate::contents::prometheus;
use crate::images::model_server::{IMAGE, MODEL};
use crate::traffic::load::Load;

/// How long two replicas may take to serve; Python takes its time.
const SERVES_WITHIN: Duration = Duration::from_secs(180);
/// Timeout after which a request that hangs counts as lost.
const TIMEOUT_MS: &str = "60000";
/// Time within which a change must be in Prometheus, which scrapes every 2 s.
const SCRAPED_WITHIN: Duration = Duration::from_secs(20);

/// Two replicas of MLServer are replaced while clients of both protocols send; the counts of it are in Prometheus.
pub(super) async fn rolling_update(cluster: Cluster) -> Result<()> {
    let namespace = Namespace::create(&cluster, "model-server").await?;
    let sample = Sample::read(&cluster)?.without("InferenceAutoscaler").replicas(2)?;
    let (sample, journal) = mlserver(sample, &cluster, namespace.name)?;
    sample.start(&namespace, SERVES_WITHIN).await?;
    let target = sample::address(&namespace).await?;
    sample::wait_reachable(&cluster, &target).await?;

    let load = [
        "--protocol",
        "rest-json=1,rest-binary=1,grpc=1",
        "--first-id",
        "1000000",
        "--rate-rps",
        "60",
        "--connections",
        "24",
        "--duration-ms",
        "40000",
        "--timeout-ms",
        TIMEOUT_MS,
    ];
    let load = Load::start(&cluster, &target, &load)?;
    journal.wait_used(&cluster).await?;
    sample::replace_pods(&cluster, &namespace, SERVES_WITHIN).await?;
    let report = load.finish().await?;
    ensure!(report["requests"].as_u64() > Some(1000), "too few requests were sent: {report}");
    ensure!(report["lost"] == 0 && report["failed"] == 0, "requests were lost or failed: {report}");

    journal.assert_no_cold_request(3)?;
    let rows = computed_once(&journal)?;
    seen_in_prometheus(&cluster, namespace.name, &report, rows).await?;
    namespace.remove().await
}

/// Returns the sample with MLServer as its model, and the journal that the model writes.
fn mlserver(mut sample: Sample, cluster: &Cluster, namespace: &str) -> Result<(Sample, Journal)> {
    sample.pod()?["containers"][0]["args"] = json!([]);
    let (mut sample, journal) = sample.journal(cluster, namespace)?;
    let pod = sample.pod()?;
    let volumes = pod["volumes"].as_array_mut().context("the journal's volume")?;
    volumes.push(json!({ "name": "scratch", "emptyDir": {} }));
    let model = &mut pod["containers"][0];
    model["image"] = json!(IMAGE);
    model["args"] = json!(["start", MODEL]);
    // The folder to which MLServer writes its metrics.
    model["workingDir"] = json!("/tmp");
    let mounts = model["volumeMounts"].as_array_mut().context("the journal's mount")?;
    mounts.push(json!({ "name": "scratch", "mountPath": "/tmp" }));
    let variables = model["env"].as_array_mut().context("the journal's variable")?;
    for (name, value) in [
        ("MLSERVER_HOST", "127.0.0.1"),
        ("MLSERVER_HTTP_PORT", "9000"),
        ("MLSERVER_GRPC_PORT", "9001"),
        ("MLSERVER_METRICS_PORT", "9002"),
        ("MLSERVER_PARALLEL_WORKERS", "0"),
        ("MLSERVER_DEBUG", "false"),
        ("PYTHONDONTWRITEBYTECODE", "1"),
        ("REFERENCE_JOURNAL", "/journal/$(POD_NAME)"),
    ] {
        variables.push(json!({ "name": name, "value": value }));
    }
    Ok((sample, journal))
}

/// Returns the number of rows that were computed for clients. Fails when a row was computed twice (nothing broke, so
/// nothing had to be sent again) or when no rows shared a call.
fn computed_once(journal: &Journal) -> Result<u64> {
    let pods = journal.pods()?;
    let clients: Vec<_> = pods.iter().flat_map(|(_, calls)| calls).filter(|call| call.is_clients()).collect();
    let mut ids: Vec<i64> = clients.iter().flat_map(|call| call.ids.iter().copied()).collect();
    let rows = ids.len();
    ensure!(clients.len() < rows, "no two rows of {rows} shared a call of the model");
    ids.sort_unstable();
    ids.dedup();
    ensure!(ids.len() == rows, "{} of {rows} rows were computed more than once", rows - ids.len());
    Ok(rows as u64)
}

/// Checks that clients, models and sidecars counted the same. Of pods that are gone, the last scrape counts.
async fn seen_in_prometheus(cluster: &Cluster, namespace: &str, report: &Value, rows: u64) -> Result<()> {
    let of_all = |metric: &str, labels: &str| {
        format!("sum(max_over_time({metric}{{namespace=\"{namespace}\",model=\"reference\"{labels}}}[10m]))")
    };
    let answered = report["answered"].as_u64().context("answered")?;
    let requests = report["requests"].as_u64().context("requests")?;
    let counts = [
        ("answers", of_all("sluice_batcher_requests_total", ",outcome=\"ok\""), answered),
        ("rows that arrived", of_all("sluice_batcher_demand_rows_total", ""), requests),
        ("rows in batches", of_all("sluice_batcher_batch_rows_sum", ""), rows),
    ];
    for (what, query, expected) in counts {
        cluster
            .wait_for(&format!("Prometheus has {expected} {what}"), SCRAPED_WITHIN, || async {
                let found = prometheus::query(&query).await?;
                #[expect(clippy::cast_precision_loss, reason = "thousands")]
                let is_it = found.is_some_and(|found| (found - expected as f64).abs() < 0.5);
                Ok(if is_it { Look::Done(()) } else { Look::NotYet(format!("{found:?}")) })
            })
            .await?;
    }
    let batches = prometheus::query(&of_all("sluice_batcher_batch_rows_count", "")).await?;
    #[expect(clippy::cast_precision_loss, reason = "thousands")]
    let merged = batches.is_some_and(|batches| batches > 0.0 && batches < rows as f64);
    ensure!(merged, "Prometheus knows of {batches:?} batches with {rows} rows");
    let refused = prometheus::query(&of_all("sluice_batcher_rejected_total", "")).await?.unwrap_or(0.0);
    let said = report["rejected"].as_f64().unwrap_or(0.0);
    ensure!((refused - said).abs() < 0.5, "Prometheus has {refused} rejections, clients counted {said}");
    Ok(())
}

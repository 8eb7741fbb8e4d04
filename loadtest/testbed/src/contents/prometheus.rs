//! Prometheus beside the cluster, with the shipped settings and a file with the pods' addresses.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use prometheus_http_query::Client;
use serde_json::{Value, json};

use crate::addresses;
use crate::workdir::Workdir;

/// Returns the value of a query that yields one series; `None` if it yields none. Runs inside the cluster's namespaces.
///
/// # Errors
/// When Prometheus cannot be reached, or rejects the query.
pub(crate) async fn query(promql: &str) -> Result<Option<f64>> {
    let client = Client::try_from(format!("http://{}:9090", addresses::NODE))?;
    let answer = client.query(promql).post().await.with_context(|| promql.to_owned())?;
    let vector = answer.data().as_vector().with_context(|| format!("{promql} is no instant vector"))?;
    Ok(vector.first().map(|series| series.sample().value()))
}

/// Returns the path of the file with the pods.
pub(crate) fn targets(workdir: &Workdir) -> PathBuf {
    workdir.path("etc/prometheus-targets.json")
}

/// Writes the settings file of Prometheus.
///
/// # Errors
/// When `shipped` cannot be read or is not YAML.
pub(crate) fn write_settings(workdir: &Workdir, shipped: &Path) -> Result<()> {
    let text = fs::read_to_string(shipped).with_context(|| shipped.display().to_string())?;
    let settings: Value = serde_saphyr::from_str(&text).with_context(|| shipped.display().to_string())?;
    let adapted = serde_json::to_string_pretty(&adapt(settings, workdir)?)?;
    let path = workdir.path("etc/prometheus.yaml");
    fs::write(&path, adapted).with_context(|| format!("cannot write {}", path.display()))
}

/// Debian's Prometheus is built without the discovery of Kubernetes: its pods come from a file instead, with the
/// labels that discovery would have given them ([`crate::contents::discovery`]).
fn adapt(mut settings: Value, workdir: &Workdir) -> Result<Value> {
    let scrapes = settings.get_mut("scrape_configs").and_then(Value::as_array_mut);
    for scrape in scrapes.into_iter().flatten().filter_map(Value::as_object_mut) {
        let Some(discoveries) = scrape.remove("kubernetes_sd_configs") else { continue };
        for discovery in discoveries.as_array().into_iter().flatten() {
            ensure!(
                discovery["role"] == "pod",
                "only role pod can be discovered here, not {}",
                discovery["role"]
            );
        }
        scrape.insert("file_sd_configs".to_owned(), json!([{ "files": [targets(workdir)] }]));
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_way_to_the_pods_is_changed() {
        let workdir = Workdir::of(&"p".parse().unwrap());
        let shipped = json!({
            "global": { "scrape_interval": "2s" },
            "scrape_configs": [{
                "job_name": "pods",
                "kubernetes_sd_configs": [{ "role": "pod" }],
                "relabel_configs": [{ "source_labels": ["__meta_kubernetes_namespace"] }],
            }],
        });
        let adapted = adapt(shipped.clone(), &workdir).unwrap();
        assert_eq!(adapted["global"], shipped["global"]);
        let (before, after) = (&shipped["scrape_configs"][0], &adapted["scrape_configs"][0]);
        assert_eq!(after["relabel_configs"], before["relabel_configs"]);
        assert_eq!(after["file_sd_configs"][0]["files"][0], "/tmp/sluice-p/etc/prometheus-targets.json");
        assert!(after.get("kubernetes_sd_configs").is_none());
    }

    #[test]
    fn another_role_than_pod_is_refused() {
        let workdir = Workdir::of(&"p".parse().unwrap());
        let shipped = json!({ "scrape_configs": [{ "kubernetes_sd_configs": [{ "role": "node" }] }] });
        assert_eq!(
            adapt(shipped, &workdir).unwrap_err().to_string(),
            "only role pod can be discovered here, not \"node\""
        );
    }
}

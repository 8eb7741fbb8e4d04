//! Prometheus beside the cluster: the shipped settings, told where the API server is and who asks.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::addresses::api_server;
use crate::workdir::Workdir;

/// Writes the settings that the component reads.
///
/// # Errors
/// When `shipped` cannot be read or is not YAML.
pub fn write_settings(workdir: &Workdir, shipped: &Path) -> Result<()> {
    let text = fs::read_to_string(shipped).with_context(|| shipped.display().to_string())?;
    let settings: Value = serde_saphyr::from_str(&text).with_context(|| shipped.display().to_string())?;
    let adapted = serde_json::to_string_pretty(&adapt(settings, workdir))?;
    let path = workdir.path("etc/prometheus.yaml");
    fs::write(&path, adapted).with_context(|| format!("cannot write {}", path.display()))
}

/// In a cluster, Prometheus takes the API server and a token from its pod; here it is no pod.
fn adapt(mut settings: Value, workdir: &Workdir) -> Value {
    let scrapes = settings.get_mut("scrape_configs").and_then(Value::as_array_mut);
    for scrape in scrapes.into_iter().flatten() {
        let discoveries = scrape.get_mut("kubernetes_sd_configs").and_then(Value::as_array_mut);
        for discovery in discoveries.into_iter().flatten() {
            discovery["api_server"] = Value::String(api_server());
            discovery["tls_config"] = json!({
                "ca_file": workdir.path("pki/ca.crt"),
                "cert_file": workdir.path("pki/admin.crt"),
                "key_file": workdir.path("pki/admin.key"),
            });
        }
    }
    settings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_way_to_the_api_server_is_changed() {
        let workdir = Workdir::of(&"p".parse().unwrap());
        let shipped = json!({
            "global": { "scrape_interval": "2s" },
            "scrape_configs": [{ "job_name": "pods", "kubernetes_sd_configs": [{ "role": "pod" }] }],
        });
        let adapted = adapt(shipped.clone(), &workdir);
        assert_eq!(adapted["global"], shipped["global"]);
        let discovery = &adapted["scrape_configs"][0]["kubernetes_sd_configs"][0];
        assert_eq!(discovery["role"], "pod");
        assert_eq!(discovery["api_server"], "https://198.18.0.1:6443");
        assert_eq!(discovery["tls_config"]["key_file"], "/tmp/sluice-p/pki/admin.key");
    }
}

//! Reads Sluice's own kinds from YAML, strictly: an unknown kind or field is an error that names it, its
//! file and document, and the nearest valid name.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;

use super::{InferenceAutoscaler, LocalDeployment};
use sluice_process::settings::from_value;

/// One document of a manifest.
#[derive(Debug, Clone)]
pub enum Manifest {
    /// What an SRE asks for.
    InferenceAutoscaler(Box<InferenceAutoscaler>),
    /// How a replica runs on one machine.
    LocalDeployment(Box<LocalDeployment>),
}

/// Why a manifest was refused.
#[derive(Debug, thiserror::Error)]
#[error("manifest {path}, document {document}: {message}")]
pub struct ManifestError {
    /// The file.
    pub path: PathBuf,
    /// Number of the document in the file, from 1; 0 when the file itself is not readable YAML.
    pub document: usize,
    /// What, where, and what would be allowed.
    pub message: String,
}

/// All documents of the file, each checked.
///
/// # Errors
/// At the first document that is not valid.
pub fn read(path: &Path) -> Result<Vec<Manifest>, ManifestError> {
    let failed =
        |document: usize, message: String| ManifestError { path: path.to_owned(), document, message };
    let text = std::fs::read_to_string(path).map_err(|error| failed(0, error.to_string()))?;
    // The reader itself knows where documents end: a `---` can also stand in a text.
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(&text).map_err(|error| failed(0, error.to_string()))?;
    documents
        .into_iter()
        .enumerate()
        .map(|(index, document)| parse(document).map_err(|message| failed(index + 1, message)))
        .collect()
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct TypeMeta {
    api_version: String,
    kind: String,
}

fn parse(value: Value) -> Result<Manifest, String> {
    let TypeMeta { api_version, kind } = serde_json::from_value(value.clone())
        .map_err(|error| format!("{error}: a manifest needs apiVersion, kind, metadata and spec"))?;
    let manifest = match (api_version.as_str(), kind.as_str()) {
        ("sluice.dev/v1alpha1", "InferenceAutoscaler") => {
            let object: InferenceAutoscaler = from_value(value)?;
            object.spec.validate()?;
            Manifest::InferenceAutoscaler(Box::new(object))
        }
        ("sluice.dev/v1alpha1", "LocalDeployment") => {
            let object: LocalDeployment = from_value(value)?;
            object.spec.validate()?;
            Manifest::LocalDeployment(Box::new(object))
        }
        _ => {
            return Err(format!(
                "{api_version} {kind} is not known here; expected sluice.dev/v1alpha1 InferenceAutoscaler \
                 or LocalDeployment"
            ));
        }
    };
    Ok(manifest)
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTOSCALER: &str = "\
apiVersion: sluice.dev/v1alpha1
kind: InferenceAutoscaler
metadata: {name: bert, namespace: default}
spec:
  scaleTargetRef: {apiVersion: sluice.dev/v1alpha1, kind: LocalDeployment, name: bert}
  model: reference
  objective: {percentile: 99, latencyMs: 300}
  maxReplicas: 6
  behavior:
    scaleDown: {stabilizationWindowSeconds: 10}
";
    const DEPLOYMENT: &str = "\
apiVersion: sluice.dev/v1alpha1
kind: LocalDeployment
metadata: {name: bert, namespace: default}
spec:
  command: [model, --listen, '127.0.0.1:{port}']
  claim: {deviceClassName: mig-2g-10gb.gpu.sluice.dev}
  gateway: {membersFile: /tmp/members.json, adminUrl: 'http://127.0.0.1:9901'}
";

    fn read_text(text: &str) -> Result<Vec<Manifest>, String> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("objects.yaml");
        std::fs::write(&path, text).unwrap();
        read(&path).map_err(|error| error.to_string())
    }

    #[test]
    fn several_documents_are_read_from_one_file() {
        let manifests = read_text(&format!("---\n{AUTOSCALER}---\n# a comment\n{DEPLOYMENT}---\n")).unwrap();
        let [Manifest::InferenceAutoscaler(autoscaler), Manifest::LocalDeployment(_)] = &manifests[..] else {
            panic!("{manifests:?}")
        };
        assert_eq!(autoscaler.spec.min_replicas, 1);
        assert_eq!(autoscaler.metadata.name.as_deref(), Some("bert"));
    }

    #[test]
    fn directives_windows_line_ends_comments_and_dashes_inside_a_text_are_no_obstacle() {
        let deployment = format!("{DEPLOYMENT}  env:\n    BANNER: |\n      a\n      ---\n      b\n");
        for stream in [
            format!("%YAML 1.2\n---\n{AUTOSCALER}---\n{deployment}"),
            format!("# a comment\n--- # the first\n{AUTOSCALER}...\n---\n{deployment}...\n"),
            format!("{AUTOSCALER}---\n{deployment}---\n---\n# nothing\n"),
            format!("---\n{AUTOSCALER}---\n{deployment}").replace('\n', "\r\n"),
        ] {
            let manifests = read_text(&stream).unwrap_or_else(|error| panic!("{stream}: {error}"));
            assert_eq!(manifests.len(), 2, "{stream}");
        }
        let error = read_text(&format!("{AUTOSCALER}---\na: [\n")).unwrap_err();
        assert!(error.contains("objects.yaml") && error.contains("line"), "{error}");
    }

    #[test]
    fn a_misspelt_field_is_named_with_the_nearest_one_and_its_document() {
        let error =
            read_text(&format!("{DEPLOYMENT}---\n{}", AUTOSCALER.replace("maxReplicas", "maxReplica")))
                .unwrap_err();
        assert!(error.contains("document 2"), "{error}");
        assert!(error.contains("did you mean `maxReplicas`?"), "{error}");
    }

    #[test]
    fn a_value_out_of_range_is_refused_with_what_is_allowed() {
        let error = read_text(&AUTOSCALER.replace("percentile: 99", "percentile: 100")).unwrap_err();
        assert!(error.contains("spec.objective.percentile is 100"), "{error}");
        let error = read_text(&DEPLOYMENT.replace("{port}", "9000")).unwrap_err();
        assert!(error.contains("{port}"), "{error}");
        for (found, replaced, told) in [
            (
                "percentile: 99",
                "percentile: 0.99",
                "spec.objective.percentile is 0.99, but must be at least 50",
            ),
            ("percentile: 99", "percentile: 0.999", "did you mean 99.9?"),
            (
                "latencyMs: 300",
                "latencyMs: 300ms",
                "spec.objective.latencyMs: milliseconds without a unit: 300",
            ),
            ("latencyMs: 300", "latencyMs: 0", "latencyMs is 0, but must be 1 to 3600000 milliseconds"),
            ("Seconds: 10", "Seconds: 5m", "stabilizationWindowSeconds: seconds without a unit: 300"),
            (
                "maxReplicas: 6",
                "maxReplicas: 6\n  expectedStartupSeconds: 60000",
                "must be 0 to 21600 seconds",
            ),
            ("Seconds: 10", "Seconds: 10, tolerance: 10", "did you mean 0.1 (10 per cent)?"),
            ("Seconds: 10", "Seconds: 10, policies: []", "policies has 0 entries"),
        ] {
            let error = read_text(&AUTOSCALER.replace(found, replaced)).unwrap_err();
            assert!(error.contains(told), "{replaced}: {error}");
        }
        for (added, told) in [
            ("readiness: {timeoutSeconds: 5m}", "spec.readiness.timeoutSeconds: seconds without a unit: 300"),
            ("readiness: {timeoutSeconds: 0}", "timeoutSeconds is 0, but must be 1 to 21600 seconds"),
            ("readiness: {path: health}", "must be a path that begins with /"),
            ("termination: {graceSeconds: 30000}", "graceSeconds is 30000"),
        ] {
            let error = read_text(&format!("{DEPLOYMENT}  {added}\n")).unwrap_err();
            assert!(error.contains(told), "{added}: {error}");
        }
        let error = read_text(&DEPLOYMENT.replace("http://127.0.0.1:9901", "127.0.0.1:9901")).unwrap_err();
        assert!(error.contains("such as http://127.0.0.1:8081"), "{error}");
    }

    #[test]
    fn a_text_that_would_leave_its_path_or_its_line_is_refused_with_its_field() {
        let long = format!("\"{}\"", "a".repeat(300));
        for (field, from, says) in [
            ("name", "kind: LocalDeployment, name: bert", "spec.scaleTargetRef.name"),
            ("kind", "kind: LocalDeployment", "spec.scaleTargetRef.kind"),
            ("apiVersion", "apiVersion: sluice.dev/v1alpha1, kind", "spec.scaleTargetRef.apiVersion"),
        ] {
            for evil in ["../x", "\"a\\nb\"", "\"a\\e[2J\"", "a/../b", "..", &long, "\"\\u202e\""] {
                let to = from.replacen(
                    from.split(&format!("{field}: ")).nth(1).unwrap().split(',').next().unwrap(),
                    evil,
                    1,
                );
                let error = read_text(&AUTOSCALER.replace(from, &to)).unwrap_err();
                assert!(error.contains(says), "{field} {evil}: {error}");
                assert!(
                    error.len() < 400 && error.chars().all(sluice_process::printable::is_printable),
                    "{error:?}"
                );
            }
        }
        for evil in ["\"a\\nb\"", "\"a\\e[2J\"", &long] {
            let error =
                read_text(&AUTOSCALER.replace("model: reference", &format!("model: {evil}"))).unwrap_err();
            assert!(error.contains("spec.model"), "{error}");
        }
        assert!(read_text(&AUTOSCALER.replace("model: reference", "model: 'meta/Llama 3.1:8b (é)'")).is_ok());
        for (from, to, says) in [
            ("mig-2g-10gb.gpu.sluice.dev", "../x", "spec.claim.deviceClassName"),
            ("http://127.0.0.1:9901", "https://x", "spec.gateway.adminUrl"),
            ("'127.0.0.1:{port}'", "\"{port}\\0\"", "spec.command"),
            ("  claim:", "  env: {'A=B': x}\n  claim:", "spec.env"),
            ("  claim:", "  readiness: {path: 'ready x'}\n  claim:", "spec.readiness.path"),
        ] {
            let error = read_text(&DEPLOYMENT.replace(from, to)).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn scale_to_zero_needs_a_place_where_demand_shows() {
        let local = AUTOSCALER.replace("maxReplicas", "minReplicas: 0\n  maxReplicas");
        let cluster = local.replace("kind: LocalDeployment", "kind: Deployment");
        let with = |text: &str, labels: &str| format!("{text}  gateway: {{matchLabels: {labels}}}\n");
        assert!(read_text(&local).is_ok());
        assert!(read_text(&with(&cluster, "{app: gateway}")).is_ok());
        for (wrong, says) in [
            (cluster.clone(), "spec.minReplicas is 0, but must be at least 1 unless spec.gateway"),
            (with(&cluster, "{}"), "spec.gateway.matchLabels is empty"),
            (with(&local, "{app: gateway}"), "a LocalDeployment names its gateway itself"),
        ] {
            let error = read_text(&wrong).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    #[test]
    fn an_unknown_kind_is_refused_with_the_known_ones() {
        let error =
            read_text(&AUTOSCALER.replace("InferenceAutoscaler", "HorizontalPodAutoscaler")).unwrap_err();
        assert!(error.contains("expected sluice.dev/v1alpha1 InferenceAutoscaler"), "{error}");
    }
}

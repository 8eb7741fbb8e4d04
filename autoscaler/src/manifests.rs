//! The object files: read strictly, checked against each other, read again when they change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sluice_config::api::manifest::{self, Manifest, ManifestError};
use sluice_config::api::{InferenceAutoscaler, LocalDeployment};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::platform::Target;
use crate::platform::name_of;

/// Interval at which the files are checked for changes.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// All objects, by namespace and name.
#[derive(Debug, Clone, Default)]
pub(crate) struct Manifests {
    /// Autoscalers, each of which keeps one target within its objective.
    pub autoscalers: BTreeMap<Target, Arc<InferenceAutoscaler>>,
    /// Deployments that autoscalers can scale.
    pub deployments: BTreeMap<Target, Arc<LocalDeployment>>,
}

/// Reason why object files were refused.
#[derive(Debug, thiserror::Error)]
pub enum ManifestsError {
    /// A file or one of its documents is not valid.
    #[error(transparent)]
    Document(#[from] ManifestError),
    /// Documents contradict each other.
    #[error("{kind} {name}: {problem}")]
    Mismatch {
        /// Kind of the object.
        kind: &'static str,
        /// Namespace and name of the object.
        name: Target,
        /// What is wrong, and what to do.
        problem: String,
    },
}

impl Manifests {
    /// Reads all files.
    ///
    /// # Errors
    /// Names the file, the document and the field, or the objects that contradict each other.
    pub(crate) fn read(files: &[PathBuf]) -> Result<Self, ManifestsError> {
        let mut all = Self::default();
        for file in files {
            for document in manifest::read(file)? {
                all.add(document)?;
            }
        }
        all.check()?;
        Ok(all)
    }

    fn add(&mut self, document: Manifest) -> Result<(), ManifestsError> {
        let (kind, name, twice) = match document {
            Manifest::InferenceAutoscaler(object) => {
                let (namespace, name) = name_of(&object);
                let name = Target { namespace, name };
                let twice = self.autoscalers.insert(name.clone(), Arc::from(object)).is_some();
                ("InferenceAutoscaler", name, twice)
            }
            Manifest::LocalDeployment(object) => {
                let namespace = object.metadata.namespace.clone().unwrap_or_else(|| "default".to_owned());
                let name = Target { namespace, name: object.metadata.name.clone().unwrap_or_default() };
                let twice = self.deployments.insert(name.clone(), Arc::from(object)).is_some();
                ("LocalDeployment", name, twice)
            }
        };
        let problem = if twice {
            "is defined twice; give one of them another name"
        } else if !is_name(&name.name) || !is_name(&name.namespace) {
            "metadata.name and metadata.namespace must be of a-z, 0-9 and '-', 1 to 63 long"
        } else {
            return Ok(());
        };
        Err(ManifestsError::Mismatch { kind, name, problem: problem.to_owned() })
    }

    fn check(&self) -> Result<(), ManifestsError> {
        let mut scaled_by: BTreeMap<Target, &Target> = BTreeMap::new();
        let mismatch = |name: &Target, problem: String| ManifestsError::Mismatch {
            kind: "InferenceAutoscaler",
            name: name.clone(),
            problem,
        };
        for (name, autoscaler) in &self.autoscalers {
            let wanted = &autoscaler.spec.scale_target_ref;
            let target = Target { namespace: name.namespace.clone(), name: wanted.name.clone() };
            if wanted.kind != "LocalDeployment" {
                let problem = format!(
                    "spec.scaleTargetRef.kind is {:?}, but platform local scales LocalDeployment alone",
                    wanted.kind
                );
                return Err(mismatch(name, problem));
            }
            if !self.deployments.contains_key(&target) {
                let problem = format!(
                    "spec.scaleTargetRef names LocalDeployment {target}, which no object file defines"
                );
                return Err(mismatch(name, problem));
            }
            if let Some(other) = scaled_by.insert(target.clone(), name) {
                let problem =
                    format!("LocalDeployment {target} is scaled by {other} already; remove one of them");
                return Err(mismatch(name, problem));
            }
        }
        let mut writers: BTreeMap<&Path, &Target> = BTreeMap::new();
        for (name, deployment) in &self.deployments {
            if let Some(other) = writers.insert(&deployment.spec.gateway.members_file, name) {
                return Err(ManifestsError::Mismatch {
                    kind: "LocalDeployment",
                    name: name.clone(),
                    problem: format!(
                        "spec.gateway.membersFile is that of {other} too; each deployment needs its own gateway"
                    ),
                });
            }
        }
        Ok(())
    }
}

/// Returns whether a name is a DNS label, as Kubernetes requires of most names.
fn is_name(name: &str) -> bool {
    let inner = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (1..=63).contains(&name.len())
        && name.chars().all(inner)
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Watches the files until `stop`, and sends each new valid state. Invalid files, perhaps half saved, leave the old
/// state in force.
pub(crate) async fn follow(files: Vec<PathBuf>, stop: CancellationToken, changed: mpsc::Sender<Manifests>) {
    let mut seen = stamps(&files);
    loop {
        tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => {}
            () = stop.cancelled() => return,
        }
        let now = stamps(&files);
        if now == seen {
            continue;
        }
        seen = now;
        match Manifests::read(&files) {
            Ok(manifests) => {
                if changed.send(manifests).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::error!(%error, "The object files changed and are not valid; the old objects stay in force.");
            }
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<(SystemTime, u64)>> {
    let stamp = |file: &PathBuf| {
        let metadata = std::fs::metadata(file).ok()?;
        Some((metadata.modified().ok()?, metadata.len()))
    };
    files.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEPLOYMENT: &str = "\
apiVersion: sluice.dev/v1alpha1
kind: LocalDeployment
metadata: {name: bert}
spec:
  command: [model, '{port}']
  claim: {deviceClassName: mig-2g-10gb.gpu.sluice.dev}
  gateway: {membersFile: /tmp/members.json, adminUrl: 'http://127.0.0.1:8081'}
";
    const AUTOSCALER: &str = "\
apiVersion: sluice.dev/v1alpha1
kind: InferenceAutoscaler
metadata: {name: bert}
spec:
  scaleTargetRef: {apiVersion: sluice.dev/v1alpha1, kind: LocalDeployment, name: bert}
  model: reference
  objective: {percentile: 99, latencyMs: 300}
  maxReplicas: 6
";

    fn read(documents: &[String]) -> Result<Manifests, String> {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("objects.yaml");
        std::fs::write(&file, documents.join("---\n")).unwrap();
        Manifests::read(&[file]).map_err(|error| error.to_string())
    }

    #[test]
    fn objects_without_a_namespace_are_in_the_default_one() {
        let all = read(&[AUTOSCALER.to_owned(), DEPLOYMENT.to_owned()]).unwrap();
        assert_eq!(all.autoscalers.keys().next().unwrap().to_string(), "default/bert");
        assert_eq!(all.deployments.len(), 1);
    }

    #[test]
    fn a_target_that_no_file_defines_is_named() {
        let error = read(&[AUTOSCALER.to_owned()]).unwrap_err();
        assert!(error.contains("InferenceAutoscaler default/bert"), "{error}");
        assert!(error.contains("LocalDeployment default/bert"), "{error}");
    }

    #[test]
    fn a_kind_that_the_platform_cannot_scale_is_named() {
        let other = AUTOSCALER.replace("kind: LocalDeployment", "kind: Deployment");
        let error = read(&[other, DEPLOYMENT.to_owned()]).unwrap_err();
        assert!(error.contains("\"Deployment\""), "{error}");
    }

    #[test]
    fn two_autoscalers_of_one_target_and_two_deployments_of_one_gateway_are_refused() {
        let second = AUTOSCALER.replace("metadata: {name: bert}", "metadata: {name: other}");
        let error = read(&[AUTOSCALER.to_owned(), second, DEPLOYMENT.to_owned()]).unwrap_err();
        assert!(error.contains("default/bert already"), "{error}");
        let second = DEPLOYMENT.replace("metadata: {name: bert}", "metadata: {name: other}");
        let error = read(&[DEPLOYMENT.to_owned(), second]).unwrap_err();
        assert!(error.contains("membersFile"), "{error}");
        let error = read(&[DEPLOYMENT.to_owned(), DEPLOYMENT.to_owned()]).unwrap_err();
        assert!(error.contains("twice"), "{error}");
    }
}

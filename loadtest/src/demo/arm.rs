//! One arm of the demo: the same trace on a stack of its own, autoscaled or with fixed replicas.

use std::path::Path;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sluice_config::api::inference_autoscaler::ScaleTargetRef;
use sluice_config::api::local_deployment::{ClaimTemplate, GatewayRef, Readiness, Termination};
use sluice_config::api::{
    InferenceAutoscaler, InferenceAutoscalerSpec, LocalDeployment, LocalDeploymentSpec,
};

use super::settings::DemoSettings;

/// Name of the model, the deployment and the autoscaler in every arm.
pub(crate) const NAME: &str = "reference";
/// Namespace of the arm's objects.
pub(crate) const NAMESPACE: &str = "default";

/// Rule by which an arm gets its replicas.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Replicas {
    /// Sluice decides between the settings' bounds.
    Autoscaled,
    /// The number of replicas is fixed from beginning to end.
    Static(u32),
}

/// Arm of the demo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Arm {
    /// Short name, also of its folder: `sluice`, `static-5`.
    pub name: String,
    pub replicas: Replicas,
}

impl Arm {
    /// Returns the arm that Sluice scales.
    pub(crate) fn autoscaled() -> Self {
        Self { name: "sluice".to_owned(), replicas: Replicas::Autoscaled }
    }

    /// Returns an arm with `replicas` fixed replicas. The same programs run in it, so that only the replicas differ.
    pub(crate) fn fixed(replicas: u32) -> Self {
        Self { name: format!("static-{replicas}"), replicas: Replicas::Static(replicas) }
    }

    fn bounds(&self, settings: &DemoSettings) -> (u32, u32) {
        match self.replicas {
            Replicas::Autoscaled => (settings.min_replicas, settings.max_replicas),
            Replicas::Static(replicas) => (replicas, replicas),
        }
    }

    /// Returns the number of replicas that must be ready before the load starts.
    pub(crate) fn initial_replicas(&self, settings: &DemoSettings) -> u32 {
        self.bounds(settings).0
    }

    /// Returns the arm's objects as a manifest that `sluice-autoscaler --objects` reads.
    ///
    /// # Errors
    /// When they cannot be written as JSON.
    pub(crate) fn manifest(
        &self,
        settings: &DemoSettings,
        model_program: &Path,
        journals: &Path,
        gateway: GatewayRef,
    ) -> serde_json::Result<String> {
        let (min_replicas, max_replicas) = self.bounds(settings);
        let metadata = ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(NAMESPACE.to_owned()),
            ..Default::default()
        };
        let autoscaler = InferenceAutoscaler {
            metadata: metadata.clone(),
            spec: InferenceAutoscalerSpec {
                scale_target_ref: ScaleTargetRef {
                    api_version: "sluice.dev/v1alpha1".to_owned(),
                    kind: "LocalDeployment".to_owned(),
                    name: NAME.to_owned(),
                },
                model: NAME.to_owned(),
                objective: settings.objective.clone(),
                min_replicas,
                max_replicas,
                // In the demo the gateway is named in the deployment.
                gateway: None,
                behavior: settings.behavior.clone(),
                scale_to_zero_idle_seconds: 300,
                expected_startup_seconds: settings.expected_startup_seconds,
                paused: false,
                dry_run: false,
            },
            status: None,
        };
        let deployment = LocalDeployment {
            metadata,
            spec: LocalDeploymentSpec {
                command: model_command(settings, model_program, journals),
                env: Default::default(),
                claim: ClaimTemplate { device_class_name: settings.device_class_name.clone() },
                readiness: Readiness { timeout_seconds: 60, ..Default::default() },
                termination: Termination { drain_seconds: 10, grace_seconds: 5 },
                gateway,
            },
        };
        // JSON is YAML: each document is written as JSON, the stream of both is YAML.
        Ok(format!(
            "{}\n---\n{}\n",
            serde_json::to_string_pretty(&autoscaler)?,
            serde_json::to_string_pretty(&deployment)?
        ))
    }
}

fn model_command(settings: &DemoSettings, program: &Path, journals: &Path) -> Vec<String> {
    let model = &settings.model;
    let mut command = vec![program.display().to_string(), "model".to_owned()];
    for (flag, value) in [
        ("--listen", "127.0.0.1:{port}".to_owned()),
        ("--admin-listen", "127.0.0.1:0".to_owned()),
        ("--name", NAME.to_owned()),
        ("--alpha-ms", model.alpha_ms.to_string()),
        ("--beta-ms", model.beta_ms.to_string()),
        ("--reference-compute-slices", model.reference_compute_slices.to_string()),
        ("--max-batch-rows", model.max_batch_rows.to_string()),
        ("--load-ms", model.load_ms.to_string()),
        ("--first-call-ms", model.first_call_ms.to_string()),
        ("--journal", journals.join("{name}-{port}.jsonl").display().to_string()),
    ] {
        command.extend([flag.to_owned(), value]);
    }
    command
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::settings::DEFAULT;
    use sluice_config::api::manifest::{self, Manifest};

    #[test]
    fn a_static_arm_is_an_autoscaler_whose_bounds_are_equal() {
        let settings: DemoSettings = serde_saphyr::from_str(DEFAULT).unwrap();
        let gateway = GatewayRef {
            members_file: "/tmp/members.json".into(),
            admin_url: "http://127.0.0.1:1".to_owned(),
        };
        let text = Arm::fixed(3)
            .manifest(&settings, Path::new("/bin/model"), Path::new("/tmp/journals"), gateway)
            .unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("objects.yaml");
        std::fs::write(&path, text).unwrap();
        let manifests = manifest::read(&path).unwrap();
        let [Manifest::InferenceAutoscaler(autoscaler), Manifest::LocalDeployment(_)] = &manifests[..] else {
            panic!("{manifests:?}")
        };
        assert_eq!((autoscaler.spec.min_replicas, autoscaler.spec.max_replicas), (3, 3));
    }
}

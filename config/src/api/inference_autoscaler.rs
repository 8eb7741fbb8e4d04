//! `InferenceAutoscaler`: keeps one deployment inside its latency objective on as few slices as possible.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Behavior;

/// What an SRE asks for.
#[derive(Debug, Clone, PartialEq, CustomResource, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "InferenceAutoscaler",
    plural = "inferenceautoscalers",
    shortname = "ias",
    namespaced,
    status = "InferenceAutoscalerStatus"
)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InferenceAutoscalerSpec {
    /// What to scale: anything with a scale subresource, or a `LocalDeployment` on one machine.
    pub scale_target_ref: ScaleTargetRef,
    /// The value of the label `model` in the batchers' metrics.
    pub model: String,
    /// What to keep.
    pub objective: Objective,
    /// Fewest replicas; 0 allows scale to zero.
    #[serde(default = "one")]
    pub min_replicas: u32,
    /// Most replicas, at least `min_replicas` and 1.
    pub max_replicas: u32,
    /// How fast replicas may change.
    #[serde(default)]
    pub behavior: Behavior,
    /// Seconds without demand before the last replica goes; only with `min_replicas: 0`.
    #[serde(default = "five_minutes")]
    pub scale_to_zero_idle_seconds: u32,
    /// Time from asking for a replica until it serves, for as long as none has been measured.
    #[serde(default = "one_minute")]
    pub expected_startup_seconds: u32,
    /// Decide and record, but change nothing and keep the replicas as they are.
    #[serde(default)]
    pub paused: bool,
    /// Decide and record what would be done, but do not do it.
    #[serde(default)]
    pub dry_run: bool,
}

/// A reference to what is scaled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScaleTargetRef {
    /// Group and version, e.g. `apps/v1`.
    pub api_version: String,
    /// Kind, e.g. `Deployment`.
    pub kind: String,
    /// Name in the autoscaler's own namespace.
    pub name: String,
}

/// A latency percentile and its limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Objective {
    /// Percentile of all requests that must be answered in time: above 0, below 100, e.g. 99.
    pub percentile: f64,
    /// The limit, from a request's arrival at the batcher to its answer.
    pub latency_ms: u32,
}

/// What the autoscaler found and did.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct InferenceAutoscalerStatus {
    /// Generation of the spec that was seen last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// Replicas that were asked for last.
    pub desired_replicas: u32,
    /// Replicas that exist.
    pub current_replicas: u32,
    /// Replicas that take traffic.
    pub ready_replicas: u32,
    /// `AbleToScale`, `ScalingActive`, `ScalingLimited`, `MetricsFresh`, `CapacityLimited`, `DryRun`.
    pub conditions: Vec<Condition>,
    /// The last decisions, newest first.
    pub decisions: Vec<DecisionSummary>,
}

/// One decision, as `kubectl sluice explain` shows it; the whole record is in the decision log.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct DecisionSummary {
    /// When, RFC 3339.
    pub time: String,
    /// Replicas asked for before.
    pub from: u32,
    /// Replicas asked for now.
    pub to: u32,
    /// Machine-readable reason, CamelCase.
    pub reason: String,
    /// The same for a person, with the numbers.
    pub message: String,
}

fn one() -> u32 {
    1
}

fn one_minute() -> u32 {
    60
}

fn five_minutes() -> u32 {
    300
}

/// So that the object can lie in an [`crate::objects::ObjectDir`] beside Kubernetes' own kinds.
impl k8s_openapi::Resource for InferenceAutoscaler {
    const API_VERSION: &'static str = "sluice.dev/v1alpha1";
    const GROUP: &'static str = "sluice.dev";
    const KIND: &'static str = "InferenceAutoscaler";
    const VERSION: &'static str = "v1alpha1";
    const URL_PATH_SEGMENT: &'static str = "inferenceautoscalers";
    type Scope = k8s_openapi::NamespaceResourceScope;
}

impl InferenceAutoscalerSpec {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// Names the field, its value and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        let Objective { percentile, latency_ms } = self.objective;
        if !(percentile > 0.0 && percentile < 100.0) {
            return Err(format!(
                "spec.objective.percentile is {percentile}, but must be above 0 and below 100"
            ));
        }
        if latency_ms == 0 {
            return Err("spec.objective.latencyMs is 0, but must be at least 1".to_owned());
        }
        if self.max_replicas == 0 || self.max_replicas < self.min_replicas {
            return Err(format!(
                "spec.maxReplicas is {}, but must be at least 1 and at least spec.minReplicas ({})",
                self.max_replicas, self.min_replicas
            ));
        }
        for (direction, rules) in
            [("scaleUp", &self.behavior.scale_up), ("scaleDown", &self.behavior.scale_down)]
        {
            let policies = rules.iter().filter_map(|rules| rules.policies.as_ref()).flatten();
            for (index, policy) in policies.enumerate() {
                if policy.value == 0 || !(1..=1800).contains(&policy.period_seconds) {
                    return Err(format!(
                        "spec.behavior.{direction}.policies[{index}]: value must be at least 1 (is {}), \
                         periodSeconds 1 to 1800 (is {})",
                        policy.value, policy.period_seconds
                    ));
                }
            }
        }
        Ok(())
    }
}

//! `InferenceAutoscaler`: keeps one deployment inside its latency objective on as few slices as possible.
#![expect(
    unreachable_pub,
    reason = "KubeSchema's twins of the types are public like them, inside a function"
)]
#![allow(clippy::duplicated_attributes, reason = "each printer column says its type")]

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::within::within;
use super::{Behavior, text};
use sluice_process::settings::share_as_percent;

/// More replicas than any cluster has slices for.
const MOST_REPLICAS: u32 = 10_000;
/// The longest wait for demand before the last replica goes.
const DAY_SECONDS: u32 = 86_400;
/// The longest start that can be expected: six hours.
const MOST_STARTUP_SECONDS: u32 = 21_600;

/// Kind of a target on one machine.
const LOCAL_DEPLOYMENT: &str = "LocalDeployment";

/// What an SRE asks for.
#[derive(Debug, Clone, PartialEq, CustomResource, Serialize, Deserialize, KubeSchema)]
#[kube(
    group = "sluice.dev",
    version = "v1alpha1",
    kind = "InferenceAutoscaler",
    plural = "inferenceautoscalers",
    shortname = "ias",
    category = "all",
    namespaced,
    status = "InferenceAutoscalerStatus",
    doc = "Keeps one deployment inside its latency objective on as few GPU slices as possible.",
    printcolumn(name = "Target", type_ = "string", json_path = ".spec.scaleTargetRef.name"),
    printcolumn(name = "Min", type_ = "integer", json_path = ".spec.minReplicas"),
    printcolumn(name = "Max", type_ = "integer", json_path = ".spec.maxReplicas"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desiredReplicas"),
    printcolumn(name = "Ready", type_ = "integer", json_path = ".status.readyReplicas"),
    printcolumn(
        name = "Limited",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"CapacityLimited\")].status",
        description = "Whether fewer slices are free than wanted"
    ),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.decisions[0].reason",
        description = "What had the last word in the last decision"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[x_kube(validation = Rule::new("self.maxReplicas >= self.minReplicas")
    .message("maxReplicas must be at least minReplicas")
    .field_path(".maxReplicas"))]
#[x_kube(validation = Rule::new("self.minReplicas >= 1 || has(self.gateway)")
    .message("minReplicas must be at least 1 unless spec.gateway is set: without any replica there is no sidecar in which demand could be seen")
    .field_path(".minReplicas"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct InferenceAutoscalerSpec {
    /// What to scale: anything with a scale subresource, or a `LocalDeployment` on one machine.
    pub scale_target_ref: ScaleTargetRef,
    /// The value of the label `model` in the batchers' metrics.
    #[schemars(length(min = 1, max = 253), extend("pattern" = text::SHOWN))]
    pub model: String,
    /// What to keep.
    pub objective: Objective,
    /// Fewest replicas. 0 allows scale to zero: in a cluster only with `gateway`, on one machine always.
    #[serde(default = "one")]
    pub min_replicas: u32,
    /// Most replicas, at least `minReplicas` and 1.
    #[schemars(range(min = 1, max = 10_000))]
    pub max_replicas: u32,
    /// The gateway that clients of the target send to. Its pods then say how much demand there is, and the
    /// sidecars of the target are not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Gateway>,
    /// How fast replicas may change.
    #[serde(default)]
    pub behavior: Behavior,
    /// Seconds without demand before the last replica goes; only with `minReplicas: 0`.
    #[serde(default = "five_minutes")]
    #[schemars(range(max = 86_400))]
    pub scale_to_zero_idle_seconds: u32,
    /// Time from asking for a replica until it serves, for as long as none has been measured.
    #[serde(default = "one_minute")]
    #[schemars(range(max = 21_600))]
    pub expected_startup_seconds: u32,
    /// Decide and record, but change nothing and keep the replicas as they are.
    #[serde(default)]
    pub paused: bool,
    /// Decide and record what would be done, but do not do it.
    #[serde(default)]
    pub dry_run: bool,
}

/// A reference to what is scaled.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[x_kube(validation = Rule::new("self.kind != 'LocalDeployment'")
    .message("a LocalDeployment is for one machine without Kubernetes; name a Deployment, or another kind with a scale subresource")
    .field_path(".kind"))]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ScaleTargetRef {
    /// Group and version, e.g. `apps/v1`.
    #[schemars(length(min = 1, max = 253), extend("pattern" = text::API_VERSION))]
    pub api_version: String,
    /// Kind, e.g. `Deployment`.
    #[schemars(length(min = 1, max = 63), extend("pattern" = text::KIND))]
    pub kind: String,
    /// Name in the autoscaler's own namespace.
    #[schemars(length(min = 1, max = 253), extend("pattern" = text::NAME))]
    pub name: String,
}

/// Where the pods of a gateway (`sluice-batcher --role gateway`) are.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Gateway {
    /// Labels that the gateway's pods have, all of them; in the autoscaler's own namespace.
    #[schemars(extend("minProperties" = 1, "maxProperties" = 16))]
    pub match_labels: BTreeMap<String, String>,
}

impl Gateway {
    /// Whether the labels can be those of pods.
    fn is_selector(&self) -> bool {
        let is_part =
            |text: &str, also: &str| text.chars().all(|c| c.is_ascii_alphanumeric() || also.contains(c));
        self.match_labels.len() <= 16
            && self.match_labels.iter().all(|(key, value)| {
                (1..=317).contains(&key.len())
                    && is_part(key, "-_./")
                    && key.matches('/').count() <= 1
                    && value.len() <= 63
                    && is_part(value, "-_.")
            })
    }
}

/// The words with which the API server refuses a percentile, as CEL. A share that was probably meant as one is looked up:
/// CEL could compute its text, but not within the cost that the API server allows, which knows no bound of a number's text.
fn percentile_refused() -> String {
    let whole: Vec<String> = (50..100).map(|percent| format!("'{percent}'")).collect();
    format!(
        "'percentile must be at least 50 and below 100, e.g. 99' + (self == 0.995 ? '; did you mean 99.5?' : self == 0.999 \
         ? '; did you mean 99.9?' : self == 0.9999 ? '; did you mean 99.99?' : self >= 0.495 && self < 0.995 \
         ? '; did you mean ' + [{}][int(self * 100.0 + 0.5) - 50] + '?' : '')",
        whole.join(",")
    )
}

/// A latency percentile and its limit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Objective {
    /// Percentile of all requests that must be answered in time: at least 50, below 100, e.g. 99.
    #[x_kube(validation = Rule::new("self >= 50.0 && self < 100.0")
        .message(Message::Expression(percentile_refused())))]
    pub percentile: f64,
    /// The limit in milliseconds, from a request's arrival at the batcher to its answer.
    #[schemars(range(min = 1, max = 3_600_000))]
    pub latency_ms: u32,
}

impl Objective {
    /// Checks what the types cannot say.
    ///
    /// # Errors
    /// Names the field below the one that holds this, its value and what is allowed.
    pub fn validate(&self) -> Result<(), String> {
        let percentile = self.percentile;
        if !(50.0..100.0).contains(&percentile) {
            let meant = share_as_percent(percentile)
                .map_or_else(String::new, |percent| format!("; did you mean {percent}?"));
            return Err(format!(
                "objective.percentile is {percentile}, but must be at least 50 and below 100, e.g. 99{meant}"
            ));
        }
        within("objective.latencyMs", self.latency_ms, 1, 3_600_000)
    }
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
    /// `AbleToScale`, `ScalingActive`, `ScalingLimited`, `MetricsFresh`, `CapacityLimited`, `Ready`, `DryRun`.
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
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
    /// How it came about: one line per stage.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub explanation: Vec<String>,
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
        self.objective.validate().map_err(|problem| format!("spec.{problem}"))?;
        let target = &self.scale_target_ref;
        let allowed = "of characters that show";
        text::check("model", &self.model, text::MOST_NAME, text::is_shown, allowed)?;
        let allowed = "a version such as v1, or a group and a version such as apps/v1";
        let version = &target.api_version;
        text::check("scaleTargetRef.apiVersion", version, text::MOST_NAME, text::is_api_version, allowed)?;
        let allowed = "a kind such as Deployment";
        text::check("scaleTargetRef.kind", &target.kind, text::MOST_KIND, text::is_kind, allowed)?;
        let allowed = "a name of a-z, 0-9, '-' and '.'";
        text::check("scaleTargetRef.name", &target.name, text::MOST_NAME, text::is_name, allowed)?;
        if self.max_replicas == 0 || self.max_replicas < self.min_replicas {
            return Err(format!(
                "spec.maxReplicas is {}, but must be at least 1 and at least spec.minReplicas ({})",
                self.max_replicas, self.min_replicas
            ));
        }
        within("spec.maxReplicas", self.max_replicas, 1, MOST_REPLICAS)?;
        within("spec.scaleToZeroIdleSeconds", self.scale_to_zero_idle_seconds, 0, DAY_SECONDS)?;
        within("spec.expectedStartupSeconds", self.expected_startup_seconds, 0, MOST_STARTUP_SECONDS)?;
        self.validate_gateway()?;
        for (direction, rules) in
            [("scaleUp", &self.behavior.scale_up), ("scaleDown", &self.behavior.scale_down)]
        {
            let window = rules.iter().filter_map(|rules| rules.stabilization_window_seconds).next();
            if let Some(seconds) = window.filter(|seconds| *seconds > 3600) {
                return Err(format!(
                    "spec.behavior.{direction}.stabilizationWindowSeconds is {seconds}, but must be at most 3600"
                ));
            }
            let tolerance = rules.iter().filter_map(|rules| rules.tolerance).next();
            if let Some(ratio) = tolerance.filter(|ratio| !(0.0..=1.0).contains(ratio)) {
                let meant = if (1.0..=100.0).contains(&ratio) {
                    format!("; did you mean {} ({ratio} per cent)?", ratio / 100.0)
                } else {
                    String::new()
                };
                return Err(format!(
                    "spec.behavior.{direction}.tolerance is {ratio}, but must be 0 to 1, e.g. 0.1{meant}"
                ));
            }
            let policies = rules.iter().filter_map(|rules| rules.policies.as_ref()).next();
            if let Some(number) = policies.map(Vec::len).filter(|number| !(1..=16).contains(number)) {
                return Err(format!(
                    "spec.behavior.{direction}.policies has {number} entries, but must have 1 to 16; leave it out \
                     for the defaults, or write selectPolicy: Disabled for no change at all"
                ));
            }
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

    /// Demand without replicas shows in a gateway alone.
    fn validate_gateway(&self) -> Result<(), String> {
        let is_local = self.scale_target_ref.kind == LOCAL_DEPLOYMENT;
        match &self.gateway {
            Some(_) if is_local => {
                Err("spec.gateway is for targets in a cluster; a LocalDeployment names its \
                                        gateway itself, in spec.gateway.adminUrl"
                    .to_owned())
            }
            Some(gateway) if gateway.match_labels.is_empty() => {
                Err("spec.gateway.matchLabels is empty, but must name the labels of the gateway's pods"
                    .to_owned())
            }
            Some(gateway) if !gateway.is_selector() => {
                Err("spec.gateway.matchLabels must be at most 16 labels, keys of at most 317 and values of at most 63 \
                     characters, of letters, digits, '-', '_' and '.' (and one '/' in a key)"
                    .to_owned())
            }
            None if self.min_replicas == 0 && !is_local => {
                Err("spec.minReplicas is 0, but must be at least 1 unless spec.gateway is set: without any \
                     replica there is no sidecar in which demand could be seen"
                    .to_owned())
            }
            _ => Ok(()),
        }
    }
}

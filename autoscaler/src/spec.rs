//! Converts an InferenceAutoscaler to the policy's specification. Defaults of `behavior` are the
//! HorizontalPodAutoscaler's, field by field.

use sluice_config::api;
use sluice_scaling_policy as policy;

/// Returns the policy's specification. `startup_ms` is the measured start-up time; `None` before the first replica was
/// ready.
pub(crate) fn policy_spec(
    spec: &api::InferenceAutoscalerSpec,
    startup_ms: Option<u64>,
    profile: String,
    windows: &policy::Windows,
) -> policy::Spec {
    policy::Spec {
        objective: policy::Objective {
            quantile: spec.objective.percentile / 100.0,
            latency_ms: f64::from(spec.objective.latency_ms),
        },
        min_replicas: spec.min_replicas,
        max_replicas: spec.max_replicas,
        behavior: policy::Behavior {
            scale_up: rules(spec.behavior.scale_up.as_ref(), policy::ScalingRules::default_up()),
            scale_down: rules(spec.behavior.scale_down.as_ref(), policy::ScalingRules::default_down()),
        },
        scale_to_zero_after_seconds: (spec.min_replicas == 0).then_some(spec.scale_to_zero_idle_seconds),
        paused: spec.paused,
        dry_run: spec.dry_run,
        startup_ms: startup_ms.unwrap_or(u64::from(spec.expected_startup_seconds) * 1000),
        profile,
        windows: windows.clone(),
    }
}

fn rules(given: Option<&api::ScalingRules>, default: policy::ScalingRules) -> policy::ScalingRules {
    let Some(given) = given else { return default };
    policy::ScalingRules {
        stabilization_window_seconds: given
            .stabilization_window_seconds
            .unwrap_or(default.stabilization_window_seconds),
        select_policy: match given.select_policy {
            None => default.select_policy,
            Some(api::SelectPolicy::Max) => policy::SelectPolicy::Max,
            Some(api::SelectPolicy::Min) => policy::SelectPolicy::Min,
            Some(api::SelectPolicy::Disabled) => policy::SelectPolicy::Disabled,
        },
        policies: match &given.policies {
            None => default.policies,
            Some(policies) => policies
                .iter()
                .map(|limit| policy::ScalingPolicy {
                    r#type: match limit.type_ {
                        api::PolicyType::Pods => policy::PolicyType::Pods,
                        api::PolicyType::Percent => policy::PolicyType::Percent,
                    },
                    value: limit.value,
                    period_seconds: limit.period_seconds,
                })
                .collect(),
        },
        tolerance: given.tolerance.unwrap_or(default.tolerance),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluice_config::api::inference_autoscaler::{Objective, ScaleTargetRef};

    fn spec() -> api::InferenceAutoscalerSpec {
        api::InferenceAutoscalerSpec {
            scale_target_ref: ScaleTargetRef {
                api_version: "sluice.dev/v1alpha1".to_owned(),
                kind: "LocalDeployment".to_owned(),
                name: "bert".to_owned(),
            },
            model: "reference".to_owned(),
            objective: Objective { percentile: 99.0, latency_ms: 300 },
            min_replicas: 0,
            max_replicas: 6,
            gateway: None,
            behavior: api::Behavior::default(),
            scale_to_zero_idle_seconds: 60,
            expected_startup_seconds: 5,
            paused: false,
            dry_run: false,
        }
    }

    #[test]
    fn a_given_field_replaces_its_default_and_leaves_the_others() {
        let mut given = spec();
        given.behavior.scale_down =
            Some(api::ScalingRules { stabilization_window_seconds: Some(7), ..Default::default() });
        let spec = policy_spec(&given, None, String::new(), &policy::Windows::default());
        assert_eq!(spec.behavior.scale_down.stabilization_window_seconds, 7);
        assert_eq!(spec.behavior.scale_down.policies, policy::ScalingRules::default_down().policies);
        assert_eq!(spec.behavior.scale_up, policy::ScalingRules::default_up());
    }

    #[test]
    fn a_measured_startup_replaces_the_expected_one() {
        let windows = policy::Windows::default();
        assert_eq!(policy_spec(&spec(), None, String::new(), &windows).startup_ms, 5000);
        assert_eq!(policy_spec(&spec(), Some(800), String::new(), &windows).startup_ms, 800);
    }

    #[test]
    fn to_zero_only_where_zero_is_allowed() {
        let windows = policy::Windows::default();
        let mut given = spec();
        assert_eq!(policy_spec(&given, None, String::new(), &windows).scale_to_zero_after_seconds, Some(60));
        given.min_replicas = 1;
        assert_eq!(policy_spec(&given, None, String::new(), &windows).scale_to_zero_after_seconds, None);
    }
}

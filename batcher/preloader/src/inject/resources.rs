//! Requests and limits of the sidecar: those of the settings, overridden by the pod's annotations, and fitted to the
//! pod, so that its QoS class stays what its template makes it.
//!
//! | the pod's own containers | the sidecar has |
//! |---|---|
//! | all of them: limits of CPU and memory that equal the requests (the pod is Guaranteed) | both limits, and requests that equal them |
//! | all of them: a limit of CPU (a quota may demand it) | both limits |
//! | anything else | a limit of memory |
//!
//! Where the pod itself has `spec.resources`, those bound the sidecar too, and it has none of its own.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use sluice_config::names::pod as names;
use sluice_inventory::quantity;

use super::InjectionError;

/// Value of settings and annotations that means "no limit".
pub const NO_LIMIT: &str = "none";

type Quantities = BTreeMap<String, Quantity>;

/// Request and limit of one resource.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// Amount that is requested.
    pub request: Quantity,
    /// Maximum that may be used; `None`: no limit.
    pub limit: Option<Quantity>,
}

/// Resources of a sidecar where the pod's annotations set none.
#[derive(Debug, Clone, PartialEq)]
pub struct Resources {
    /// CPU. The limit applies only in pods whose own containers all have a CPU limit.
    pub cpu: Share,
    /// Memory.
    pub memory: Share,
}

/// Request and limit of one resource as the pod's annotations set them; `None`: not set.
struct Wish {
    request: Option<Quantity>,
    /// `Some(None)`: no limit.
    limit: Option<Option<Quantity>>,
}

/// Returns whether a text is a quantity above 0.
pub fn is_positive(text: &str) -> bool {
    quantity::nano(text).is_some_and(|nano| nano > 0)
}

/// Returns the resources of the sidecar of this pod.
///
/// # Errors
/// Names the annotation that is not a quantity above 0, or that requests more than its limit.
pub(super) fn of(
    pod: &Pod,
    spec: &PodSpec,
    defaults: &Resources,
) -> Result<ResourceRequirements, InjectionError> {
    let mut requests = Quantities::new();
    let mut limits = Quantities::new();
    let guaranteed = is_guaranteed(spec);
    for (name, defaults, annotations, has_limit) in [
        (
            "cpu",
            &defaults.cpu,
            (names::SIDECAR_CPU_ANNOTATION, names::SIDECAR_CPU_LIMIT_ANNOTATION),
            all_have_limit(spec, "cpu"),
        ),
        (
            "memory",
            &defaults.memory,
            (names::SIDECAR_MEMORY_ANNOTATION, names::SIDECAR_MEMORY_LIMIT_ANNOTATION),
            true,
        ),
    ] {
        let wish = Wish::read(pod, annotations)?;
        if wish.request.is_none() && wish.limit.is_none() && is_of_pod(spec, name) {
            continue;
        }
        let (request, limit) = share(wish, defaults, guaranteed, has_limit);
        if limit.as_ref().is_some_and(|limit| is_less(limit, &request)) {
            let problem = format!(
                "{:?} is more than the limit, {:?}; change it or {}",
                request.0,
                limit.map(|limit| limit.0).unwrap_or_default(),
                annotations.1
            );
            return Err(InjectionError::new(format!("metadata.annotations[{}]", annotations.0), problem));
        }
        requests.insert(name.to_owned(), request);
        if let Some(limit) = limit {
            limits.insert(name.to_owned(), limit);
        }
    }
    let some = |quantities: Quantities| (!quantities.is_empty()).then_some(quantities);
    Ok(ResourceRequirements { requests: some(requests), limits: some(limits), claims: None })
}

/// Returns request and limit. Where annotations set only one of the two, the other follows from it.
fn share(wish: Wish, defaults: &Share, guaranteed: bool, has_limit: bool) -> (Quantity, Option<Quantity>) {
    let default_limit = || defaults.limit.clone().filter(|_| has_limit);
    match (wish.request, wish.limit) {
        (Some(request), Some(limit)) => (request, limit),
        (Some(request), None) => {
            let limit = default_limit().map(|limit| {
                let follows = guaranteed || is_less(&limit, &request);
                if follows { request.clone() } else { limit }
            });
            (request, limit)
        }
        (None, limit) => {
            let limit = limit.unwrap_or_else(default_limit);
            let request = match &limit {
                Some(limit) if guaranteed || is_less(limit, &defaults.request) => limit.clone(),
                _ => defaults.request.clone(),
            };
            (request, limit)
        }
    }
}

impl Wish {
    fn read(pod: &Pod, (request, limit): (&str, &str)) -> Result<Self, InjectionError> {
        let annotations = pod.metadata.annotations.as_ref();
        let text =
            |name: &str| annotations.and_then(|annotations| annotations.get(name)).map(|text| text.trim());
        let positive = |name: &str, text: &str, or: &str| {
            if is_positive(text) {
                return Ok(Quantity(text.to_owned()));
            }
            let problem = format!("{text:?} is no quantity above 0, such as 250m or 512Mi{or}");
            Err(InjectionError::new(format!("metadata.annotations[{name}]"), problem))
        };
        Ok(Self {
            request: text(request).map(|text| positive(request, text, "")).transpose()?,
            limit: match text(limit) {
                None => None,
                Some(NO_LIMIT) => Some(None),
                Some(text) => Some(Some(positive(limit, text, ", nor \"none\"")?)),
            },
        })
    }
}

/// Returns the resources of every container, also of init containers: all count for the QoS class.
fn of_containers(spec: &PodSpec) -> impl Iterator<Item = Option<&ResourceRequirements>> {
    let all = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    all.map(|container| container.resources.as_ref())
}

fn all_have_limit(spec: &PodSpec, name: &str) -> bool {
    of_containers(spec).all(|resources| limit_of(resources, name).is_some())
}

fn limit_of<'a>(resources: Option<&'a ResourceRequirements>, name: &str) -> Option<&'a Quantity> {
    resources?.limits.as_ref()?.get(name)
}

/// Returns whether the pod is Guaranteed without its sidecar.
fn is_guaranteed(spec: &PodSpec) -> bool {
    of_containers(spec).all(|resources| {
        ["cpu", "memory"].into_iter().all(|name| {
            let request = resources.and_then(|resources| resources.requests.as_ref()?.get(name));
            limit_of(resources, name).is_some_and(|limit| {
                // Where a request is left out, the API server sets it to the limit.
                request.is_none_or(|request| quantity::nano(&request.0) == quantity::nano(&limit.0))
            })
        })
    })
}

/// Returns whether the pod as a whole (`spec.resources`) has a request or limit of the resource.
fn is_of_pod(spec: &PodSpec, name: &str) -> bool {
    spec.resources.as_ref().is_some_and(|resources| {
        let has = |all: &Option<Quantities>| all.as_ref().is_some_and(|all| all.contains_key(name));
        has(&resources.requests) || has(&resources.limits)
    })
}

fn is_less(one: &Quantity, other: &Quantity) -> bool {
    quantity::nano(&one.0) < quantity::nano(&other.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn defaults() -> Resources {
        let share = |request: &str, limit: &str| Share {
            request: Quantity(request.into()),
            limit: Some(Quantity(limit.into())),
        };
        Resources { cpu: share("50m", "1"), memory: share("64Mi", "1Gi") }
    }

    /// Returns the resources of the sidecar of a pod with these resources and annotations.
    fn sidecar(containers: &[Value], annotations: Value, pod_level: Value) -> Result<Value, String> {
        let of = |resources: &Value| json!({"name": "c", "resources": resources});
        let pod = json!({"metadata": {"annotations": annotations}, "spec": {
            "initContainers": containers.iter().skip(1).map(of).collect::<Value>(),
            "containers": containers.iter().take(1).map(of).collect::<Value>(),
            "resources": pod_level,
        }});
        let pod: Pod = serde_json::from_value(pod).unwrap();
        let resources = super::of(&pod, pod.spec.as_ref().unwrap(), &defaults());
        resources
            .map(|resources| serde_json::to_value(resources).unwrap())
            .map_err(|refusal| refusal.to_string())
    }

    #[test]
    fn a_pods_qos_class_is_that_of_its_own_containers() {
        let guaranteed =
            json!({"limits": {"cpu": "4", "memory": "8Gi"}, "requests": {"cpu": "4000m", "memory": "8Gi"}});
        let limits_alone = json!({"limits": {"cpu": "4", "memory": "8Gi"}});
        let burstable =
            json!({"limits": {"cpu": "4", "memory": "8Gi"}, "requests": {"cpu": "1", "memory": "8Gi"}});
        let requests_alone = json!({"requests": {"cpu": "1", "memory": "1Gi"}});
        let all = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1", "memory": "1Gi"}});
        let both_limits =
            json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "50m", "memory": "64Mi"}});
        let memory_limit = json!({"limits": {"memory": "1Gi"}, "requests": {"cpu": "50m", "memory": "64Mi"}});
        for (containers, wanted) in [
            (vec![guaranteed.clone()], &all),
            (vec![limits_alone], &all),
            (vec![burstable.clone()], &both_limits),
            (vec![guaranteed.clone(), burstable], &both_limits),
            (vec![guaranteed, requests_alone.clone()], &memory_limit),
            (vec![requests_alone], &memory_limit),
            (vec![json!({})], &memory_limit),
        ] {
            assert_eq!(sidecar(&containers, json!({}), Value::Null).unwrap(), *wanted, "{containers:?}");
        }
    }

    #[test]
    fn annotations_win_and_what_they_leave_open_follows() {
        let guaranteed = json!({"limits": {"cpu": "4", "memory": "8Gi"}});
        let (cpu, memory) = (names::SIDECAR_CPU_ANNOTATION, names::SIDECAR_MEMORY_ANNOTATION);
        let (cpu_limit, memory_limit) =
            (names::SIDECAR_CPU_LIMIT_ANNOTATION, names::SIDECAR_MEMORY_LIMIT_ANNOTATION);
        for (resources, annotations, requests, limits) in [
            // A Guaranteed pod stays Guaranteed, whichever of the two is set.
            (
                &guaranteed,
                json!({cpu: "200m", memory_limit: "2Gi"}),
                json!(["200m", "2Gi"]),
                json!(["200m", "2Gi"]),
            ),
            (&guaranteed, json!({cpu: "1", cpu_limit: "2"}), json!(["1", "1Gi"]), json!(["2", "1Gi"])),
            (&guaranteed, json!({cpu_limit: "none"}), json!(["50m", "1Gi"]), json!([null, "1Gi"])),
            (&json!({}), json!({memory: "2Gi"}), json!(["50m", "2Gi"]), json!([null, "2Gi"])),
            (&json!({}), json!({memory_limit: "32Mi"}), json!(["50m", "32Mi"]), json!([null, "32Mi"])),
            (
                &json!({}),
                json!({memory_limit: "none", cpu_limit: " 1500m "}),
                json!(["50m", "64Mi"]),
                json!(["1500m", null]),
            ),
        ] {
            let said = sidecar(std::slice::from_ref(resources), annotations.clone(), Value::Null).unwrap();
            let both = |of: &str| json!([said[of]["cpu"], said[of]["memory"]]);
            assert_eq!((both("requests"), both("limits")), (requests, limits), "{annotations}");
        }
    }

    #[test]
    fn what_is_no_quantity_or_above_its_limit_is_refused_by_its_annotation() {
        for (name, value) in [
            (names::SIDECAR_CPU_ANNOTATION, "none"),
            (names::SIDECAR_CPU_ANNOTATION, "0"),
            (names::SIDECAR_CPU_LIMIT_ANNOTATION, "-1"),
            (names::SIDECAR_MEMORY_ANNOTATION, "64 MB"),
            (names::SIDECAR_MEMORY_LIMIT_ANNOTATION, ""),
        ] {
            let refused = sidecar(&[json!({})], json!({ name: value }), Value::Null).unwrap_err();
            assert!(
                refused.starts_with(&format!("metadata.annotations[{name}]: {value:?} is no quantity")),
                "{refused}"
            );
        }
        let (request, limit) = (names::SIDECAR_MEMORY_ANNOTATION, names::SIDECAR_MEMORY_LIMIT_ANNOTATION);
        let refused =
            sidecar(&[json!({})], json!({request: "1Gi", limit: "512Mi"}), Value::Null).unwrap_err();
        assert!(
            refused.starts_with(&format!("metadata.annotations[{request}]: \"1Gi\" is more than")),
            "{refused}"
        );
    }

    #[test]
    fn resources_of_the_pod_as_a_whole_bound_its_sidecar_too() {
        let whole = json!({"limits": {"cpu": "4", "memory": "8Gi"}});
        assert_eq!(sidecar(&[json!({})], json!({}), whole.clone()).unwrap(), json!({}));
        let cpu_alone = json!({"requests": {"cpu": "4"}});
        let said = sidecar(&[json!({})], json!({}), cpu_alone).unwrap();
        assert_eq!(said, json!({"limits": {"memory": "1Gi"}, "requests": {"memory": "64Mi"}}));
        let said = sidecar(&[json!({})], json!({names::SIDECAR_CPU_ANNOTATION: "1"}), whole).unwrap();
        assert_eq!(said, json!({"requests": {"cpu": "1"}}));
    }
}

//! Finds what a pod claims, and which claims are still to be allocated (pure).
//!
//! A slice is promised from when a replica is asked for until its claim has an allocation. Until then first only the scale
//! shows it, then a pod, then the pod's claim; each promise is counted once.

use anyhow::anyhow;
use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::api::resource::v1::{
    DeviceRequest, ResourceClaim, ResourceClaimSpec, ResourceClaimTemplate,
};
use sluice_inventory::Promised;

use super::pods;

/// Replicas that were asked for and have no pod yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Missing {
    /// DeviceClass that each replica claims.
    pub device_class: String,
    /// Number of replicas.
    pub replicas: u32,
    /// Name of the target, for messages.
    pub holder: String,
}

/// ResourceClaimTemplates by namespace and name.
pub(super) type Templates<'a> = BTreeMap<(&'a str, &'a str), &'a ResourceClaimTemplate>;

/// Returns the DeviceClass of which each pod of this specification claims one device; `None` where it claims nothing.
///
/// # Errors
/// Fails for claims that cannot be counted, and says which can.
pub(super) fn device_class(
    namespace: &str,
    pod: &PodSpec,
    templates: &Templates<'_>,
) -> anyhow::Result<Option<String>> {
    let claim = match pod.resource_claims.as_deref().unwrap_or_default() {
        [] => return Ok(None),
        [claim] => claim,
        claims => {
            return Err(anyhow!(
                "each pod has {} resourceClaims; only one claim of one device can be counted",
                claims.len()
            ));
        }
    };
    let Some(template) = &claim.resource_claim_template_name else {
        return Err(anyhow!(
            "resourceClaims[{}] names a ResourceClaim that all replicas would share; name a \
             resourceClaimTemplateName",
            claim.name
        ));
    };
    let found = templates.get(&(namespace, template.as_str())).ok_or_else(|| {
        anyhow!("the ResourceClaimTemplate {namespace}/{template} does not exist; create it")
    })?;
    class_of(&found.spec.spec)
        .map(Some)
        .map_err(|problem| anyhow!("ResourceClaimTemplate {namespace}/{template}: {problem}"))
}

/// Returns the class of a claim's only request.
fn class_of(spec: &ResourceClaimSpec) -> anyhow::Result<String> {
    let requests: &[DeviceRequest] =
        spec.devices.as_ref().and_then(|devices| devices.requests.as_deref()).unwrap_or_default();
    let [request] = requests else {
        return Err(anyhow!("it has {} requests; only one request can be counted", requests.len()));
    };
    let name = &request.name;
    let Some(exactly) = &request.exactly else {
        return Err(anyhow!("request {name} is firstAvailable; only `exactly` can be counted"));
    };
    let one = exactly.count.is_none_or(|count| count <= 1)
        && exactly.allocation_mode.as_deref().is_none_or(|mode| mode != "All");
    if !one {
        return Err(anyhow!("request {name} asks for several devices; only one device can be counted"));
    }
    if exactly.selectors.as_ref().is_some_and(|selectors| !selectors.is_empty()) || exactly.capacity.is_some()
    {
        return Err(anyhow!(
            "request {name} selects beyond its DeviceClass; only a class can be counted: make one with \
             these selectors"
        ));
    }
    Ok(exactly.device_class_name.clone())
}

/// Returns the claims that will need a device before the next replica does. `pods` and `claims` are those of the whole
/// cluster, as far as they are known.
pub(super) fn promised(
    pods: &[&Pod],
    claims: &[ResourceClaim],
    templates: &Templates<'_>,
    missing: &[Missing],
) -> Vec<Promised> {
    let mut promised: BTreeMap<(String, String), u32> = BTreeMap::new();
    let mut promise = |device_class: String, holder: String, count: u32| {
        *promised.entry((device_class, holder)).or_default() += count;
    };
    let by_uid: BTreeMap<&str, &Pod> =
        pods.iter().filter_map(|pod| Some((pod.metadata.uid.as_deref()?, *pod))).collect();
    let mut claimed: Vec<&str> = Vec::new();
    for claim in claims {
        let Some(owner) = owner(claim) else { continue };
        claimed.push(owner);
        let has_device = claim.status.as_ref().is_some_and(|status| status.allocation.is_some());
        let leaves = by_uid.get(owner).is_some_and(|pod| !pods::is_live(pod));
        if has_device || leaves || claim.metadata.deletion_timestamp.is_some() {
            continue;
        }
        if let Ok(class) = class_of(&claim.spec) {
            let part = |part: &Option<String>| part.clone().unwrap_or_default();
            promise(class, format!("{}/{}", part(&claim.metadata.namespace), part(&claim.metadata.name)), 1);
        }
    }
    claimed.sort_unstable();
    for pod in pods.iter().filter(|pod| pods::is_live(pod)) {
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let (Some(spec), Err(_)) = (&pod.spec, claimed.binary_search(&uid)) else { continue };
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        if let Ok(Some(class)) = device_class(namespace, spec, templates) {
            promise(class, format!("{namespace}/{}", pods::name(pod)), 1);
        }
    }
    for one in missing.iter().filter(|one| one.replicas > 0) {
        promise(one.device_class.clone(), one.holder.clone(), one.replicas);
    }
    promised
        .into_iter()
        .map(|((device_class, holder), claims)| Promised { device_class, claims, holder })
        .collect()
}

/// Returns the UID of the pod for which a claim was made; `None` for claims that users made themselves.
pub(super) fn owner(claim: &ResourceClaim) -> Option<&str> {
    let owners = claim.metadata.owner_references.as_ref()?;
    owners.iter().find(|owner| owner.kind == "Pod").map(|owner| owner.uid.as_str())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    const CLASS: &str = "mig-2g-10gb.gpu.sluice.dev";

    fn template(name: &str, requests: Value) -> ResourceClaimTemplate {
        let metadata = json!({"namespace": "ns", "name": name});
        serde_json::from_value(
            json!({"metadata": metadata, "spec": {"spec": {"devices": {"requests": requests}}}}),
        )
        .unwrap()
    }

    fn plain() -> Value {
        json!([{"name": "gpu", "exactly": {"deviceClassName": CLASS}}])
    }

    fn templates(all: &[ResourceClaimTemplate]) -> Templates<'_> {
        all.iter().map(|one| (("ns", one.metadata.name.as_deref().unwrap()), one)).collect()
    }

    fn pod(name: &str, phase: &str) -> Pod {
        serde_json::from_value(json!({
            "metadata": {"namespace": "ns", "name": name, "uid": name},
            "spec": {"containers": [], "resourceClaims": [
                {"name": "gpu", "resourceClaimTemplateName": "slice"},
            ]},
            "status": {"phase": phase},
        }))
        .unwrap()
    }

    fn claim(of: &str, allocated: bool) -> ResourceClaim {
        let mut claim = json!({
            "metadata": {"namespace": "ns", "name": format!("{of}-gpu"), "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": of, "uid": of},
            ]},
            "spec": {"devices": {"requests": plain()}},
        });
        if allocated {
            claim["status"] = json!({"allocation": {}});
        }
        serde_json::from_value(claim).unwrap()
    }

    fn count(pods: &[Pod], claims: &[ResourceClaim], missing: &[Missing]) -> u32 {
        let all = [template("slice", plain())];
        let pods: Vec<&Pod> = pods.iter().collect();
        promised(&pods, claims, &templates(&all), missing).iter().map(|one| one.claims).sum()
    }

    fn class_for(spec: Value, requests: Value) -> Result<Option<String>, String> {
        let all = [template("slice", requests)];
        let mut pod = json!({"containers": []});
        json_patch::merge(&mut pod, &spec);
        device_class("ns", &serde_json::from_value(pod).unwrap(), &templates(&all))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_class_is_that_of_the_templates_one_request() {
        let claims = json!({"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "slice"}]});
        assert_eq!(class_for(claims.clone(), plain()), Ok(Some(CLASS.to_owned())));
        assert_eq!(class_for(json!({}), plain()), Ok(None), "a pod without claims needs no device");
        for (spec, requests, says) in [
            (
                json!({"resourceClaims": [{"name": "gpu", "resourceClaimName": "mine"}]}),
                plain(),
                "all replicas would share",
            ),
            (
                json!({"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "absent"}]}),
                plain(),
                "ns/absent does not exist",
            ),
            (claims.clone(), json!([]), "0 requests"),
            (claims.clone(), json!([{"name": "gpu", "firstAvailable": []}]), "firstAvailable"),
            (
                claims.clone(),
                json!([{"name": "gpu", "exactly": {"deviceClassName": CLASS, "count": 2}}]),
                "several devices",
            ),
            (
                claims,
                json!([{"name": "gpu", "exactly": {"deviceClassName": CLASS, "selectors": [
                    {"cel": {"expression": "true"}},
                ]}}]),
                "selects beyond",
            ),
        ] {
            let error = class_for(spec, requests).unwrap_err();
            assert!(error.contains(says), "{error}");
        }
    }

    /// The way of one replica from the scale to its device, watches lagging behind each other.
    #[test]
    fn a_replica_is_promised_exactly_once_until_it_has_its_device() {
        let asked =
            |replicas| [Missing { device_class: CLASS.to_owned(), replicas, holder: "ns/bert".to_owned() }];
        assert_eq!(count(&[], &[], &asked(1)), 1, "asked for");
        let pods = [pod("a", "Pending")];
        assert_eq!(count(&pods, &[], &asked(0)), 1, "a pod, gated or not, without a claim");
        assert_eq!(count(&pods, &[claim("a", false)], &asked(0)), 1, "a claim without a device");
        assert_eq!(count(&pods, &[claim("a", true)], &asked(0)), 0, "a claim with its device");
        assert_eq!(count(&[], &[claim("a", false)], &asked(0)), 1, "the pod is of another namespace");
    }

    #[test]
    fn pods_that_leave_want_nothing_more() {
        assert_eq!(count(&[pod("a", "Failed")], &[claim("a", false)], &[]), 0);
        assert_eq!(count(&[pod("a", "Succeeded")], &[], &[]), 0);
        let mut mine = claim("a", false);
        mine.metadata.owner_references = None;
        assert_eq!(count(&[], &[mine], &[]), 0, "a claim that no pod waits for");
    }
}

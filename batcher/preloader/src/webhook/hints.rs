//! Warnings for the author of a pod or of a workload: warnings to the workload's controller would not be read.

use k8s_openapi::api::core::v1::{Pod, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::core::DynamicObject;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview};
use serde::Deserialize;
use serde_json::Value;

use super::review::{HookResponse, MOST_WARNINGS, warned};
use crate::inject::{self, Sidecar};

/// Answers an AdmissionReview of a pod or of an object with a pod template. The object is always allowed.
pub(super) fn answer(body: &[u8], sidecar: &Sidecar, own_namespace: &str) -> HookResponse {
    let malformed = |text: String| HookResponse { outcome: "malformed", body: Err(text) };
    let review: AdmissionReview<DynamicObject> = match serde_json::from_slice(body) {
        Ok(review) => review,
        Err(error) => return malformed(format!("not an AdmissionReview of an object: {error}\n")),
    };
    let request: AdmissionRequest<DynamicObject> = match review.try_into() {
        Ok(request) => request,
        Err(_) => return malformed("the AdmissionReview has no request\n".to_owned()),
    };
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let is_pod = request.kind.kind == "Pod";
    let mut warnings = Vec::new();
    if let Some((pod, field)) = request.object.as_ref().and_then(|object| pod_of(object, is_pod)) {
        let opted_in = inject::opts_in(&pod) && !inject::is_left_alone(namespace, own_namespace);
        // An opted-in pod gets its warnings together with its sidecar.
        if !(is_pod && opted_in) {
            warnings.extend(inject::hints(&pod, namespace, own_namespace));
        }
        if !is_pod && opted_in {
            match inject::with_sidecar(&pod, sidecar, "token") {
                Ok(_) => warnings.extend(inject::second_ports(&pod, &[])),
                Err(refusal) => warnings.push(format!("its pods will be refused: {refusal}")),
            }
        }
        warnings.iter_mut().for_each(|warning| warning.insert_str(0, field));
    }
    warnings.truncate(MOST_WARNINGS);
    let response = warned(AdmissionResponse::from(&request), warnings);
    match serde_json::to_vec(&response.into_review()) {
        Ok(json) => HookResponse { outcome: "unchanged", body: Ok(json) },
        Err(error) => malformed(format!("the answer cannot be written: {error}\n")),
    }
}

/// A pod template.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Template {
    metadata: ObjectMeta,
    spec: Option<PodSpec>,
}

/// Returns the pod, or the pod of the template, and the prefix of its field paths; `None` if neither can be
/// read.
fn pod_of(object: &DynamicObject, is_pod: bool) -> Option<(Pod, &'static str)> {
    if is_pod {
        let spec = object.data.get("spec").cloned().unwrap_or(Value::Null);
        let metadata = object.metadata.clone();
        return Some((Pod { metadata, spec: serde_json::from_value(spec).ok()?, status: None }, ""));
    }
    for (pointer, field) in [
        ("/spec/template", "in spec.template: "),
        ("/spec/jobTemplate/spec/template", "in spec.jobTemplate.spec.template: "),
    ] {
        if let Some(template) = object.data.pointer(pointer) {
            let template: Template = serde_json::from_value(template.clone()).ok()?;
            return Some((Pod { metadata: template.metadata, spec: template.spec, status: None }, field));
        }
    }
    None
}

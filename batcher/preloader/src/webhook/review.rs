//! From an AdmissionReview to its answer.

use k8s_openapi::api::core::v1::Pod;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use rand::Rng;

use super::lookup::Lookup;
use crate::inject::{self, Refusal, Sidecar};

/// Where the gate is asked for.
pub const GATE_PATH: &str = "/mutate-gate";
/// Where the sidecar is asked for.
pub const SIDECAR_PATH: &str = "/mutate-sidecar";
/// What a pod that cannot have its sidecar is: an object that is not valid.
const UNPROCESSABLE: u16 = 422;

/// Which of the two is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Adds the gate; where it fails, the pod starts without.
    Gate,
    /// Adds the sidecar; where it fails, the pod does not start.
    Sidecar,
}

impl Hook {
    /// As metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Sidecar => "sidecar",
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct Answer {
    /// As metrics call it: `patched`, `unchanged`, `refused` or `malformed`.
    pub outcome: &'static str,
    /// An AdmissionReview; or what is wrong with a question that is none.
    pub body: Result<Vec<u8>, String>,
}

/// Answers a question.
pub async fn answer(hook: Hook, body: &[u8], sidecar: &Sidecar, lookup: &dyn Lookup) -> Answer {
    let malformed = |text: String| Answer { outcome: "malformed", body: Err(text) };
    let review: AdmissionReview<Pod> = match serde_json::from_slice(body) {
        Ok(review) => review,
        Err(error) => return malformed(format!("not an AdmissionReview of a Pod: {error}\n")),
    };
    // By this way, for the answer must name the version of the question.
    let request: AdmissionRequest<Pod> = match review.try_into() {
        Ok(request) => request,
        Err(_) => return malformed("the AdmissionReview has no request\n".to_owned()),
    };
    let (outcome, response) = match decide(hook, &request, sidecar, lookup).await {
        Ok((None, warnings)) => ("unchanged", warned(AdmissionResponse::from(&request), warnings)),
        Ok((Some(patch), warnings)) => match AdmissionResponse::from(&request).with_patch(patch) {
            Ok(response) => ("patched", warned(response, warnings)),
            Err(error) => return malformed(format!("the patch cannot be written: {error}\n")),
        },
        Err(refusal) => {
            tracing::info!(
                namespace = request.namespace,
                name = request.name,
                %refusal,
                "A pod cannot have its sidecar; it was refused."
            );
            let mut response = AdmissionResponse::from(&request).deny(&refusal);
            response.result.code = UNPROCESSABLE;
            response.result.reason = "Invalid".to_owned();
            ("refused", response)
        }
    };
    match serde_json::to_vec(&response.into_review()) {
        Ok(json) => Answer { outcome, body: Ok(json) },
        Err(error) => malformed(format!("the answer cannot be written: {error}\n")),
    }
}

fn warned(mut response: AdmissionResponse, warnings: Vec<String>) -> AdmissionResponse {
    response.warnings = (!warnings.is_empty()).then_some(warnings);
    response
}

type Decision = (Option<json_patch::Patch>, Vec<String>);

async fn decide(
    hook: Hook,
    request: &AdmissionRequest<Pod>,
    sidecar: &Sidecar,
    lookup: &dyn Lookup,
) -> Result<Decision, Refusal> {
    let Some(pod) = &request.object else { return Ok((None, Vec::new())) };
    // The configuration asks for nothing else; whoever changed it is not to break pods that did not opt in.
    if request.operation != Operation::Create || !inject::opts_in(pod) {
        return Ok((None, Vec::new()));
    }
    let namespace = request.namespace.as_deref().unwrap_or_default();
    let mut warnings = Vec::new();
    let changed = match hook {
        Hook::Sidecar => {
            let changed = inject::with_sidecar(pod, sidecar, &token())?;
            if changed.is_some() {
                let services = lookup.services(namespace).await;
                let services = services.iter();
                warnings.extend(services.filter_map(|service| inject::passes_by(service, pod)).take(3));
            }
            changed
        }
        Hook::Gate => match lookup.claimed_classes(namespace, pod).await {
            Ok(classes) => inject::with_gate(pod, &classes),
            Err(problem) => {
                // The gate fails open.
                warnings.push(format!("no scheduling gate was added: {problem}"));
                None
            }
        },
    };
    let Some(changed) = changed else { return Ok((None, warnings)) };
    let patch = inject::patch(pod, &changed).map_err(|error| Refusal {
        field: "spec".to_owned(),
        problem: format!("cannot be written as JSON: {error}"),
    })?;
    Ok((Some(patch), warnings))
}

/// A pod's own, so that nobody but its kubelet and who may read the pod can have it drained.
fn token() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}

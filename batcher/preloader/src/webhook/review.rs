//! From an AdmissionReview to its answer.

use k8s_openapi::api::core::v1::Pod;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use rand::Rng;

use super::hints;
use super::lookup::Lookup;
use crate::inject::{self, InjectionError, Sidecar};

/// Where the gate is asked for.
pub const GATE_PATH: &str = "/mutate-gate";
/// Where the sidecar is asked for.
pub const SIDECAR_PATH: &str = "/mutate-sidecar";
/// Where is asked what somebody may have meant.
pub const HINTS_PATH: &str = "/hints";
/// Warnings of one answer: the API server cuts off what is longer together than 4096 characters.
pub(super) const MOST_WARNINGS: usize = 8;
/// What a pod that cannot have its sidecar is: an object that is not valid.
const UNPROCESSABLE: u16 = 422;

/// Which of them is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Adds the gate; where it fails, the pod starts without.
    Gate,
    /// Adds the sidecar; where it fails, the pod does not start.
    Sidecar,
    /// Changes and refuses nothing: warns of what somebody may have meant, in pods and in templates of pods.
    Hints,
}

impl Hook {
    /// As metrics call it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Sidecar => "sidecar",
            Self::Hints => "hints",
        }
    }
}

/// An answer.
#[derive(Debug)]
pub struct HookResponse {
    /// As metrics call it: `patched`, `unchanged`, `refused` or `malformed`.
    pub outcome: &'static str,
    /// An AdmissionReview; or what is wrong with a question that is none.
    pub body: Result<Vec<u8>, String>,
}

/// Answers a question about a pod; `own_namespace` is where Sluice runs.
pub async fn answer(
    hook: Hook,
    body: &[u8],
    sidecar: &Sidecar,
    lookup: &dyn Lookup,
    own_namespace: &str,
) -> HookResponse {
    if hook == Hook::Hints {
        return hints::answer(body, sidecar, own_namespace);
    }
    let malformed = |text: String| HookResponse { outcome: "malformed", body: Err(text) };
    let review: AdmissionReview<Pod> = match serde_json::from_slice(body) {
        Ok(review) => review,
        Err(error) => return malformed(format!("not an AdmissionReview of a Pod: {error}\n")),
    };
    // By this way, for the answer must name the version of the question.
    let request: AdmissionRequest<Pod> = match review.try_into() {
        Ok(request) => request,
        Err(_) => return malformed("the AdmissionReview has no request\n".to_owned()),
    };
    let (outcome, response) = match decide(hook, &request, sidecar, lookup, own_namespace).await {
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
        Ok(json) => HookResponse { outcome, body: Ok(json) },
        Err(error) => malformed(format!("the answer cannot be written: {error}\n")),
    }
}

pub(super) fn warned(mut response: AdmissionResponse, warnings: Vec<String>) -> AdmissionResponse {
    response.warnings = (!warnings.is_empty()).then_some(warnings);
    response
}

type Change = (Option<json_patch::Patch>, Vec<String>);

async fn decide(
    hook: Hook,
    request: &AdmissionRequest<Pod>,
    sidecar: &Sidecar,
    lookup: &dyn Lookup,
    own_namespace: &str,
) -> Result<Change, InjectionError> {
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
                let past = services.iter().filter_map(|service| inject::passes_by(service, pod));
                warnings.extend(past.take(3));
                warnings.extend(inject::second_ports(pod, &services));
                warnings.extend(inject::hints(pod, namespace, own_namespace));
                warnings.truncate(MOST_WARNINGS);
            }
            changed
        }
        // Answered elsewhere: it is asked about more than pods.
        Hook::Hints => None,
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
    let patch = inject::patch(pod, &changed).map_err(|error| InjectionError {
        field: "spec".to_owned(),
        problem: format!("cannot be written as JSON: {error}"),
    })?;
    Ok((Some(patch), warnings))
}

/// A pod's own, so that nobody but its kubelet and who may read the pod can have it drained.
fn token() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}

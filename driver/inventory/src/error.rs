//! Errors of this crate.

/// Reason why a claim gets no devices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AllocationError {
    /// The claim already has an allocation.
    #[error("claim {claim} is allocated already; an allocation is only ever cleared, not changed")]
    AlreadyAllocated {
        /// `namespace/name`.
        claim: String,
    },
    /// The claim names a DeviceClass that does not exist.
    #[error(
        "request {request:?} wants DeviceClass {class:?}, which does not exist; create it or correct the claim"
    )]
    UnknownClass {
        /// Name of the request.
        request: String,
        /// Name of the class.
        class: String,
    },
    /// The claim uses a feature that this crate does not evaluate.
    #[error("request {request:?} uses {what}, which is not supported yet; {instead}")]
    Unsupported {
        /// Name of the request.
        request: String,
        /// Name of the feature.
        what: &'static str,
        /// Advice on what to use instead.
        instead: &'static str,
    },
    /// A selector does not compile.
    #[error("{place}: selector {expression:?} is not valid CEL: {error}")]
    Selector {
        /// DeviceClass or request that has the selector.
        place: String,
        /// Text of the selector.
        expression: String,
        /// Message of the parser.
        error: String,
    },
    /// No free devices fit at the moment.
    #[error("{reason}")]
    NoFit {
        /// Profile, pools, and the claims that hold what is in the way.
        reason: String,
    },
}

/// Reason why the GPUs of a node cannot be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// A name is too long or not a valid DNS name.
    #[error("{what} {name:?} is not a valid name: {why}; choose another")]
    Name {
        /// Kind of object that has the name.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong with the name.
        why: String,
    },
    /// Two devices would have the same name.
    #[error("device {name:?} would be published twice; GPU minors and profile names must be unique")]
    Duplicate {
        /// Name of the device.
        name: String,
    },
    /// A placement reaches beyond the memory slices of the GPU.
    #[error(
        "GPU {minor}: profile {profile} has a placement at {start} of size {size}, outside its {slices} memory slices"
    )]
    Placement {
        /// Minor number of the GPU.
        minor: u32,
        /// Name of the profile.
        profile: String,
        /// First memory slice of the placement.
        start: u8,
        /// Number of memory slices of the placement.
        size: u8,
        /// Number of memory slices of the GPU.
        slices: u8,
    },
    /// The text of an attribute is longer than the API allows.
    #[error("GPU {minor}: attribute {attribute} is {length} bytes long; the API takes {limit}")]
    Attribute {
        /// Minor number of the GPU.
        minor: u32,
        /// Name of the attribute.
        attribute: &'static str,
        /// Length of the text in bytes.
        length: usize,
        /// Maximum length in bytes.
        limit: usize,
    },
    /// The devices of one GPU do not fit into one slice of the combined layout.
    #[error(
        "GPU {minor} has {devices} devices, one combined slice takes {limit}; use the split form (Kubernetes >= 1.35)"
    )]
    TooManyDevices {
        /// Minor number of the GPU.
        minor: u32,
        /// Number of its devices.
        devices: usize,
        /// Maximum devices of a slice.
        limit: usize,
    },
}

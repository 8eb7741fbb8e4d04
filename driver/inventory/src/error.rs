//! Errors of this crate.

/// Why a claim gets no devices.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AllocationError {
    /// It holds devices already.
    #[error("claim {claim} is allocated already; an allocation is only ever cleared, not changed")]
    AlreadyAllocated {
        /// `namespace/name`.
        claim: String,
    },
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

/// Why a node's GPUs cannot be published.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// Not a DNS subdomain, or too long.
    #[error("{what} {name:?} is not a valid name: {why}; choose another")]
    Name {
        /// Whose name.
        what: &'static str,
        /// The name.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// Two devices would share a name.
    #[error("device {name:?} would be published twice; GPU minors and profile names must be unique")]
    Duplicate {
        /// The device name.
        name: String,
    },
    /// A placement lies outside the GPU.
    #[error(
        "GPU {minor}: profile {profile} has a placement at {start} of size {size}, outside its {slices} memory slices"
    )]
    Placement {
        /// GPU minor number.
        minor: u32,
        /// Profile name.
        profile: String,
        /// Start of the placement.
        start: u8,
        /// Size of the placement.
        size: u8,
        /// Memory slices of the GPU.
        slices: u8,
    },
    /// An attribute's text is longer than the API takes.
    #[error("GPU {minor}: attribute {attribute} is {length} bytes long; the API takes {limit}")]
    Attribute {
        /// GPU minor number.
        minor: u32,
        /// Attribute name.
        attribute: &'static str,
        /// Its length in bytes.
        length: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// One GPU does not fit in one slice of the combined form.
    #[error(
        "GPU {minor} has {devices} devices, one combined slice takes {limit}; use the split form (Kubernetes >= 1.35)"
    )]
    TooManyDevices {
        /// GPU minor number.
        minor: u32,
        /// Its devices.
        devices: usize,
        /// The limit.
        limit: usize,
    },
}

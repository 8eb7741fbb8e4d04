//! The stages of a decision, in order.
use crate::decision::{Decision, Reason, Steps};
use crate::input::Input;

/// Decides. A pure function: the same input gives the same decision, bit for bit.
pub fn decide(input: &Input) -> Decision {
    Decision {
        desired: input.current.replicas,
        apply: false,
        reason: Reason::MetricsMissing,
        message: "Holding.".to_owned(),
        limited: None,
        conditions: Vec::new(),
        steps: Steps::default(),
        state: input.state.clone(),
    }
}

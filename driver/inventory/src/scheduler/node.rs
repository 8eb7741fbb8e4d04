//! Decides whether a node is one of those that a slice or a device names.
use k8s_openapi::api::core::v1::{Node, NodeSelector};

use super::Reason;
use crate::node_selector::matches;

/// Returns whether the node is named: by its name, as one of all, or by a selector; `false` where none of them is
/// given.
///
/// # Errors
/// The selector is not valid.
pub(super) fn is_named(
    node: &Node,
    name: Option<&str>,
    all: Option<bool>,
    selector: Option<&NodeSelector>,
) -> Result<bool, Reason> {
    if let Some(name) = name.filter(|name| !name.is_empty()) {
        return Ok(node.metadata.name.as_deref() == Some(name));
    }
    if all == Some(true) {
        return Ok(true);
    }
    let Some(selector) = selector else { return Ok(false) };
    // All terms are read first: one that is not valid fails the whole selector.
    let terms = selector.node_selector_terms.iter().map(|term| matches(term, node));
    Ok(terms.collect::<Result<Vec<_>, _>>()?.into_iter().any(|matches| matches))
}

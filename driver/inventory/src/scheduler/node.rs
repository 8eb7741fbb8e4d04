//! Decides whether a node is one of those that a slice or a device names.
use k8s_openapi::api::core::v1::{Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm};

use super::Reason;

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
    let terms = selector.node_selector_terms.iter().map(|term| matches(node, term));
    Ok(terms.collect::<Result<Vec<_>, _>>()?.into_iter().any(|matches| matches))
}

/// Returns whether a term matches: all of its requirements must. A term without requirements matches nothing.
fn matches(node: &Node, term: &NodeSelectorTerm) -> Result<bool, Reason> {
    let (expressions, fields) = (term.match_expressions.iter().flatten(), term.match_fields.iter().flatten());
    let mut all = expressions.clone().next().is_some() || fields.clone().next().is_some();
    for requirement in expressions {
        let label = node.metadata.labels.as_ref().and_then(|labels| labels.get(&requirement.key));
        all &= is_met(requirement, label.map(String::as_str))?;
    }
    for requirement in fields {
        let values = requirement.values.as_deref().unwrap_or_default();
        if requirement.key != "metadata.name"
            || values.len() != 1
            || !matches!(requirement.operator.as_str(), "In" | "NotIn")
        {
            return Err(invalid(requirement));
        }
        all &= is_met(requirement, node.metadata.name.as_deref())?;
    }
    Ok(all)
}

fn is_met(requirement: &NodeSelectorRequirement, value: Option<&str>) -> Result<bool, Reason> {
    let values = requirement.values.as_deref().unwrap_or_default();
    let has = || value.is_some_and(|value| values.iter().any(|wanted| wanted == value));
    let number = |text: &str| text.parse::<i64>();
    match (requirement.operator.as_str(), values) {
        ("In", [_, ..]) => Ok(has()),
        ("NotIn", [_, ..]) => Ok(!has()),
        ("Exists", []) => Ok(value.is_some()),
        ("DoesNotExist", []) => Ok(value.is_none()),
        (operator @ ("Gt" | "Lt"), [bound]) => {
            let bound = number(bound).map_err(|_| invalid(requirement))?;
            let value = value.and_then(|value| number(value).ok());
            Ok(value.is_some_and(|value| if operator == "Gt" { value > bound } else { value < bound }))
        }
        _ => Err(invalid(requirement)),
    }
}

fn invalid(requirement: &NodeSelectorRequirement) -> Reason {
    let NodeSelectorRequirement { key, operator, values } = requirement;
    let values = values.as_deref().unwrap_or_default();
    Reason::Invalid { what: format!("node selector for {key:?}"), value: format!("{operator} {values:?}") }
}

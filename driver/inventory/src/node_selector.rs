//! Node selectors, evaluated as Kubernetes' own code does: for devices and pools, and for the affinity of pods.
use k8s_openapi::api::core::v1::{Node, NodeSelectorRequirement, NodeSelectorTerm};

/// Requirement that the API server would not have taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("node selector for {key:?} is not valid: {operator} {values:?}")]
pub struct InvalidRequirement {
    /// Label, or field of the node.
    pub key: String,
    /// Operator.
    pub operator: String,
    /// Values.
    pub values: Vec<String>,
}

/// Returns whether a term matches a node: all of its requirements must. A term without requirements matches nothing.
///
/// # Errors
/// A requirement is not valid.
pub fn matches(term: &NodeSelectorTerm, node: &Node) -> Result<bool, InvalidRequirement> {
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

fn is_met(requirement: &NodeSelectorRequirement, value: Option<&str>) -> Result<bool, InvalidRequirement> {
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

fn invalid(requirement: &NodeSelectorRequirement) -> InvalidRequirement {
    let NodeSelectorRequirement { key, operator, values } = requirement.clone();
    InvalidRequirement { key, operator, values: values.unwrap_or_default() }
}

//! Finds the smallest state that still shows a difference, by leaving out parts.
use anyhow::Result;
use serde_json::Value;

use sluice_inventory_oracle::state::State;

/// Leaves out parts of the state, largest first, while `differs` holds.
pub(crate) fn shrink(state: &State, mut differs: impl FnMut(&State) -> Result<bool>) -> Result<State> {
    let mut smallest = serde_json::to_value(state)?;
    loop {
        let mut parts = Vec::new();
        removable(&smallest, &mut Vec::new(), &mut parts);
        let mut is_smaller = false;
        for part in parts {
            let mut smaller = smallest.clone();
            if !remove(&mut smaller, &part) {
                continue;
            }
            let Ok(candidate) = serde_json::from_value::<State>(smaller.clone()) else { continue };
            if differs(&candidate)? {
                smallest = smaller;
                is_smaller = true;
            }
        }
        if !is_smaller {
            return Ok(serde_json::from_value(smallest)?);
        }
    }
}

/// A step from a value to a part of it.
#[derive(Debug, Clone)]
enum Step {
    Key(String),
    Index(usize),
}

/// Lists what may be left out: elements of lists, last first, and optional members.
fn removable(value: &Value, path: &mut Vec<Step>, parts: &mut Vec<Vec<Step>>) {
    match value {
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate().rev() {
                path.push(Step::Index(index));
                parts.push(path.clone());
                removable(element, path, parts);
                path.pop();
            }
        }
        Value::Object(members) => {
            for (key, member) in members {
                path.push(Step::Key(key.clone()));
                // Without these a state asks another question, or is not valid.
                if !matches!(
                    key.as_str(),
                    "metadata"
                        | "name"
                        | "spec"
                        | "limit"
                        | "pool"
                        | "generation"
                        | "nodeName"
                        | "exactly"
                        | "deviceClassName"
                        | "count"
                        | "allocationMode"
                        | "cel"
                        | "driver"
                        | "request"
                ) {
                    parts.push(path.clone());
                }
                removable(member, path, parts);
                path.pop();
            }
        }
        _ => {}
    }
}

/// Leaves a part out. Returns `false` where it does not exist any more.
fn remove(value: &mut Value, path: &[Step]) -> bool {
    match (value, path) {
        (Value::Array(elements), [Step::Index(index)]) if *index < elements.len() => {
            elements.remove(*index);
            true
        }
        (Value::Object(members), [Step::Key(key)]) => members.remove(key).is_some(),
        (Value::Array(elements), [Step::Index(index), rest @ ..]) => {
            elements.get_mut(*index).is_some_and(|element| remove(element, rest))
        }
        (Value::Object(members), [Step::Key(key), rest @ ..]) => {
            members.get_mut(key).is_some_and(|member| remove(member, rest))
        }
        _ => false,
    }
}

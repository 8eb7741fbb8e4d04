//! The same model with state: it counts the steps of each sequence, and answers each step with its number. A step
//! without a start before it silently begins a new count, as some servers do.

use std::collections::HashMap;
use std::sync::Mutex;

use serde_json::Value;
use sluice_protocol::grpc::{InferParameter, infer_parameter::ParameterChoice};

/// One step, as the server has seen it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// Which run of the server.
    pub epoch: usize,
    pub sequence: String,
    pub number: i64,
}

/// What of a request concerns its sequence.
#[derive(Debug, Default)]
pub struct Asked {
    id: Option<String>,
    starts: bool,
    ends: bool,
}

impl Asked {
    pub fn of_json(request: &Value) -> Self {
        let parameters = &request["parameters"];
        let id = match &parameters["sequence_id"] {
            Value::Null => None,
            id => Some(id.to_string()),
        };
        Self { id, starts: parameters["sequence_start"] == true, ends: parameters["sequence_end"] == true }
    }

    pub fn of_grpc<'a>(parameters: impl IntoIterator<Item = (&'a String, &'a InferParameter)>) -> Self {
        let mut asked = Self::default();
        for (name, parameter) in parameters {
            let choice = parameter.parameter_choice.clone().unwrap();
            match (name.as_str(), choice) {
                ("sequence_id", ParameterChoice::Int64Param(id)) => asked.id = Some(id.to_string()),
                ("sequence_id", ParameterChoice::Uint64Param(id)) => asked.id = Some(id.to_string()),
                ("sequence_id", ParameterChoice::StringParam(id)) => {
                    asked.id = Some(Value::from(id).to_string());
                }
                ("sequence_start", ParameterChoice::BoolParam(starts)) => asked.starts = starts,
                ("sequence_end", ParameterChoice::BoolParam(ends)) => asked.ends = ends,
                _ => {}
            }
        }
        asked
    }
}

/// The counts of one server.
#[derive(Debug, Default)]
pub struct Counts {
    /// By run of the server and sequence.
    counts: Mutex<HashMap<(usize, String), i64>>,
    seen: Mutex<Vec<Step>>,
}

impl Counts {
    /// The number of this step, where the request is one.
    pub fn step(&self, epoch: usize, asked: Asked) -> Option<i64> {
        let sequence = asked.id?;
        let mut counts = self.counts.lock().unwrap();
        let key = (epoch, sequence.clone());
        if asked.starts {
            counts.remove(&key);
        }
        let count = counts.entry(key.clone()).or_default();
        *count += 1;
        let number = *count;
        if asked.ends {
            counts.remove(&key);
        }
        self.seen.lock().unwrap().push(Step { epoch, sequence, number });
        Some(number)
    }

    pub fn seen(&self) -> Vec<Step> {
        self.seen.lock().unwrap().clone()
    }
}

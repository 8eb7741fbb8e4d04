//! How the decisions in an object's status came about, on the object itself, so that `explain` needs
//! nothing but the object: an annotation beside the status, bounded like it.

use serde::{Deserialize, Serialize};
use sluice_config::api::InferenceAutoscaler;

/// The annotation.
pub const ANNOTATION: &str = "sluice.dev/explanations";

/// One decision in words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// When, as in the decision's summary.
    pub time: String,
    /// One line per stage.
    pub lines: Vec<String>,
}

/// Explanations, newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Explanations(Vec<Explanation>);

impl Explanations {
    /// Those on the object; none where the annotation is missing or not readable.
    pub fn of(object: &InferenceAutoscaler) -> Self {
        let annotation = object.metadata.annotations.as_ref().and_then(|all| all.get(ANNOTATION));
        annotation.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// Puts them on the object.
    pub fn put_on(&self, object: &mut InferenceAutoscaler) {
        if let Ok(text) = serde_json::to_string(self) {
            object.metadata.annotations.get_or_insert_default().insert(ANNOTATION.to_owned(), text);
        }
    }

    /// Adds one, drops the oldest beyond `most`.
    pub fn remember(&mut self, explanation: Explanation, most: usize) {
        self.0.insert(0, explanation);
        self.0.truncate(most);
    }

    /// Drops the newest.
    pub fn forget_newest(&mut self) {
        if !self.0.is_empty() {
            self.0.remove(0);
        }
    }

    /// That of the decision made at `time`.
    pub fn at(&self, time: &str) -> Option<&Explanation> {
        self.0.iter().find(|explanation| explanation.time == time)
    }
}

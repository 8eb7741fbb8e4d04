//! The models that a server lists, for messages about one that it does not have.

use bytes::Bytes;
use serde::Deserialize;
use sluice_process::settings::nearest;

use super::{ControlConnection, ControlError};
use crate::upstream::connection::Wire;

/// Maximum number of names in a message.
const MOST_NAMED: usize = 10;
/// Maximum length of a name in a message, in characters.
const LONGEST_NAME: usize = 100;

impl ControlConnection {
    /// Returns the names of the server's models, sorted; empty if it has no list. The repository index is that of
    /// Triton and MLServer, the lists are those of KServe and OpenAI's API.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn models(&mut self) -> Result<Vec<String>, ControlError> {
        if self.wire() == Wire::Grpc {
            return Ok(names(self.grpc_repository_index().await?));
        }
        let mut found = names(self.rest_posted("/v2/repository/index").await?);
        for path in ["/v2/models", LIST] {
            if found.is_empty() {
                found = names(self.rest_document(path).await?);
            }
        }
        Ok(found)
    }

    /// Returns whether OpenAI's list of models contains the model; `None` if there is no list.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn lists(&mut self, model: &str) -> Result<Option<bool>, ControlError> {
        if self.wire() == Wire::Grpc {
            return Ok(None);
        }
        let names = names(self.rest_document(LIST).await?);
        Ok((!names.is_empty()).then(|| names.iter().any(|name| name == model)))
    }
}

/// Path of OpenAI's list of models; KServe has its own at the same path.
const LIST: &str = "/v1/models";

/// Returns the names in an answer of any of these formats; none for another format.
fn names(answer: Option<Bytes>) -> Vec<String> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum ModelIndex {
        Index(Vec<Model>),
        Models { models: Vec<Model> },
        Data { data: Vec<Model> },
    }
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Model {
        Name(String),
        Named { name: String },
        Identified { id: String },
    }
    let models = match answer.and_then(|answer| serde_json::from_slice(&answer).ok()) {
        Some(
            ModelIndex::Index(models) | ModelIndex::Models { models } | ModelIndex::Data { data: models },
        ) => models,
        None => return Vec::new(),
    };
    let name = |model| match model {
        Model::Name(name) | Model::Named { name } | Model::Identified { id: name } => name,
    };
    let mut names: Vec<String> = models.into_iter().map(name).collect();
    names.sort_unstable();
    // A model is listed once per version.
    names.dedup();
    names
}

/// Returns the message for a model that a server with the models `has` does not have.
pub fn no_such_model(model: &str, has: &[String]) -> String {
    let mut text = format!("the model server has no model {model:?} yet");
    if has.is_empty() {
        return text;
    }
    let short = |name: &str| name.chars().take(LONGEST_NAME).collect::<String>();
    let shown: Vec<String> = has.iter().take(MOST_NAMED).map(|name| format!("{:?}", short(name))).collect();
    text.push_str(&format!("; it has {}", shown.join(", ")));
    if has.len() > MOST_NAMED {
        text.push_str(&format!(" and {} more", has.len() - MOST_NAMED));
    }
    if let Some(nearest) = nearest(model, has.iter().map(String::as_str)) {
        text.push_str(&format!("; did you mean {:?}?", short(nearest)));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_of_all_servers_are_read() {
        for answer in [
            r#"[{"name":"b","version":"1","state":"READY"},{"name":"a"},{"name":"b","version":"2"}]"#,
            r#"{"models":["b","a"]}"#,
            r#"{"models":[{"name":"b"},{"name":"a"}]}"#,
            r#"{"object":"list","data":[{"id":"b","object":"model"},{"id":"a"}]}"#,
        ] {
            assert_eq!(names(Some(Bytes::from(answer))), ["a", "b"], "{answer}");
        }
        for answer in [None, Some("{}"), Some("<html>"), Some("[1]")] {
            assert!(names(answer.map(Bytes::from)).is_empty());
        }
    }

    #[test]
    fn a_message_names_what_there_is_and_what_was_probably_meant() {
        let has = |count: usize| (0..count).map(|n| format!("resnet{n:02}")).collect::<Vec<_>>();
        assert_eq!(no_such_model("x", &[]), "the model server has no model \"x\" yet");
        let text = no_such_model("resnt01", &has(2));
        assert!(text.ends_with("; it has \"resnet00\", \"resnet01\"; did you mean \"resnet01\"?"), "{text}");
        assert!(!no_such_model("zzz", &has(2)).contains("did you mean"));
        assert!(no_such_model("zzz", &has(12)).ends_with("and 2 more"));
        assert!(no_such_model("m", &["n".repeat(1 << 20)]).len() < 500);
    }
}

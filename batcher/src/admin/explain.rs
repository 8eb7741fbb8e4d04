//! `/explain`: explains one of the last requests, or the state of all models.

use http::StatusCode;
use sluice_process::admin::{AdminResponse, json, plain};

use super::Routes;
use super::query::id;
use crate::observe::explain::explain;
use crate::observe::record::Record;

/// Maximum number of known ids that are listed when an id is unknown.
const NAMED_IDS: usize = 20;

impl Routes {
    pub(super) fn explain(&self, query: Option<&str>) -> AdminResponse {
        let id = match id(query.unwrap_or_default()) {
            Ok(Some(id)) => id,
            Ok(None) => return plain(StatusCode::OK, self.models_in_words()),
            Err(problem) => return plain(StatusCode::BAD_REQUEST, format!("{problem}\n")),
        };
        let kept = self.0.observe.kept();
        // The latest one, if clients have used an id twice.
        match kept.iter().rev().find(|record| record.request_id == id) {
            Some(record) => json(StatusCode::OK, &explain(record, kept.iter().map(|other| &**other))),
            None => plain(StatusCode::NOT_FOUND, self.unknown(kept.iter().map(|record| &**record))),
        }
    }

    fn unknown<'a>(&self, kept: impl DoubleEndedIterator<Item = &'a Record>) -> String {
        match self.0.settings.now().observe.explain_requests {
            0 => "no requests are kept: set explainRequests to the number to keep\n".to_owned(),
            most => {
                let mut text =
                    format!("no such id among the last {most} requests (explainRequests); the latest are:\n");
                for record in kept.rev().take(NAMED_IDS) {
                    text.push_str(&format!("{} {} {}\n", record.request_id, record.outcome, record.path));
                }
                text
            }
        }
    }

    fn models_in_words(&self) -> String {
        let mut text = String::new();
        for handle in self.0.registry.all().iter() {
            text.push_str(&crate::queue::explain::describe(handle));
            text.push('\n');
        }
        if text.is_empty() {
            text.push_str("no model has been asked for yet\n");
        }
        text
    }
}

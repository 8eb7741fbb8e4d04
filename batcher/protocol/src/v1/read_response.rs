//! The response of a model server's V1 path.

use bytes::Bytes;

use super::body::{members, value};
use crate::ResponseError;
use crate::json::items;

/// What the server answered; each text is a JSON value as it was written.
#[derive(Debug, Clone)]
pub(crate) struct TextResponse {
    /// The whole body.
    pub(crate) body: Bytes,
    /// `predictions` and `outputs`: an array, or arrays by name.
    pub(crate) results: Vec<(String, Results)>,
    /// Every other field: numbers, strings and the like, which every client gets.
    pub(crate) fields: Vec<(String, Bytes)>,
    /// A field that may hold something of each row, and that we do not know how to share out.
    pub(crate) unshareable: Option<String>,
}

/// One field that is shared out by rows.
#[derive(Debug, Clone)]
pub(crate) enum Results {
    Array(Bytes),
    Arrays(Vec<(String, Bytes)>),
}

/// Reads the body of a 200 answer.
pub(super) fn read_response(body: Bytes) -> Result<TextResponse, ResponseError> {
    let text = value(&body).map_err(|error| ResponseError(error.to_string()))?;
    if !items::is_object(&text) {
        return Err(ResponseError("not an object".into()));
    }
    let named = |text: &Bytes| -> Result<Vec<(String, Bytes)>, ResponseError> {
        members(text)
            .map(|(name, value)| Ok((name.map_err(|error| ResponseError(error.to_string()))?, value)))
            .collect()
    };
    let mut response = TextResponse { body, results: Vec::new(), fields: Vec::new(), unshareable: None };
    for (name, value) in named(&text)? {
        match name.as_str() {
            "predictions" | "outputs" if items::is_array(&value) => {
                response.results.push((name, Results::Array(value)));
            }
            "outputs" if items::is_object(&value) => {
                response.results.push((name, Results::Arrays(named(&value)?)));
            }
            _ if items::is_array(&value) || items::is_object(&value) => response.unshareable = Some(name),
            _ => response.fields.push((name, value)),
        }
    }
    Ok(response)
}

//! Reads the response of a model server's V1 path.

use bytes::Bytes;

use super::body::{members, value};
use crate::ResponseError;
use crate::json::items;

/// Content of a V1 response; each text is a JSON value as it was written.
#[derive(Debug, Clone)]
pub(crate) struct TextResponse {
    /// The whole body.
    pub(crate) body: Bytes,
    /// The fields `predictions` and `outputs`, which are split by rows.
    pub(crate) results: Vec<(String, Results)>,
    /// All other fields that are scalars, which every client gets.
    pub(crate) fields: Vec<(String, Bytes)>,
    /// Name of another field that is an array or an object: it may belong to single rows, so the response cannot be split.
    pub(crate) unshareable: Option<String>,
}

/// Value of a field that is split by rows: one array, or arrays by name.
#[derive(Debug, Clone)]
pub(crate) enum Results {
    Array(Bytes),
    Arrays(Vec<(String, Bytes)>),
}

/// Reads the body of a response with status 200.
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

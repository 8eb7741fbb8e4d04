//! Reads the model and the tokens from the body of a stream request. The body itself is passed on unchanged.

use serde::Deserialize;

use crate::labels::MAX_NAME_BYTES;

/// Estimated bytes of the body per token of the prompt: about what tokenizers achieve on English text in JSON.
const BYTES_PER_TOKEN: u64 = 4;

/// What the body of a stream request asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Asked {
    /// Name of the model; `None` if the request names none, or if it is too long for series of its own.
    pub model: Option<String>,
    /// Upper bound of its cost in tokens: those of the prompt, estimated from the length of the body, plus the maximum
    /// to be generated. `None` if the body sets no maximum.
    pub tokens: Option<u64>,
}

/// Fields of OpenAI's chat completions, completions and responses, of Triton's generate extension (TensorRT-LLM has
/// `max_tokens` at the top, vLLM in `parameters`), and of TGI's (`max_new_tokens`).
#[derive(Deserialize)]
struct Body {
    model: Option<String>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    max_new_tokens: Option<u64>,
    n: Option<u64>,
    parameters: Option<Parameters>,
}

#[derive(Deserialize)]
struct Parameters {
    max_tokens: Option<u64>,
    max_new_tokens: Option<u64>,
}

impl Asked {
    /// Reads a body. One that cannot be parsed gives `None` for both: rejecting it is up to the model server.
    pub fn read(body: &[u8]) -> Self {
        let Ok(fields) = serde_json::from_slice::<Body>(body) else { return Self::default() };
        let parameters = fields.parameters.as_ref();
        let generated = fields
            .max_completion_tokens
            .or(fields.max_tokens)
            .or(fields.max_output_tokens)
            .or(fields.max_new_tokens)
            .or(parameters.and_then(|parameters| parameters.max_tokens))
            .or(parameters.and_then(|parameters| parameters.max_new_tokens));
        let prompt = body.len() as u64 / BYTES_PER_TOKEN;
        let tokens = generated
            .map(|generated| generated.saturating_mul(fields.n.unwrap_or(1).max(1)).saturating_add(prompt));
        let model = fields.model.filter(|model| model.len() <= MAX_NAME_BYTES);
        Self { model, tokens }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(body: &str) -> Option<u64> {
        Asked::read(body.as_bytes()).tokens.map(|tokens| tokens - body.len() as u64 / 4)
    }

    #[test]
    fn the_bound_of_generated_tokens_is_found_under_each_of_its_names() {
        assert_eq!(tokens(r#"{"model":"m","max_tokens":16,"messages":[{"content":"x"}]}"#), Some(16));
        assert_eq!(tokens(r#"{"max_tokens":16,"max_completion_tokens":8}"#), Some(8));
        assert_eq!(tokens(r#"{"input":"x","max_output_tokens":9,"n":2}"#), Some(18));
        assert_eq!(tokens(r#"{"text_input":"x","parameters":{"max_tokens":7}}"#), Some(7));
        assert_eq!(tokens(r#"{"inputs":"x","parameters":{"max_new_tokens":5}}"#), Some(5));
        assert_eq!(tokens(r#"{"model":"m","messages":[]}"#), None);
    }

    #[test]
    fn a_name_that_is_too_long_counts_as_none() {
        let model = |bytes: usize| {
            Asked::read(format!(r#"{{"model":"{}","max_tokens":1}}"#, "m".repeat(bytes)).as_bytes()).model
        };
        assert_eq!(model(MAX_NAME_BYTES).map(|model| model.len()), Some(MAX_NAME_BYTES));
        assert_eq!(model(MAX_NAME_BYTES + 1), None);
    }

    #[test]
    fn what_is_no_request_says_nothing() {
        for body in ["", "[]", "{", "{\"max_tokens\":-1}", "{\"model\":7}"] {
            assert_eq!(Asked::read(body.as_bytes()), Asked::default(), "{body}");
        }
        let huge = format!("{{\"model\":\"m\",\"max_tokens\":{0},\"n\":{0}}}", u64::MAX);
        assert_eq!(Asked::read(huge.as_bytes()).tokens, Some(u64::MAX));
    }
}

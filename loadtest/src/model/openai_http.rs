//! OpenAI's `/v1/chat/completions`, `/v1/completions` and `/v1/models`, with simulated generation: the text is
//! `t0 t1 t2 …`, one word a token.

use std::convert::Infallible;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use serde::Deserialize;
use serde_json::{Value, json};

use super::body::{Body, json_response, read_body};
use super::generation::Generation;
use super::service::ModelService;

/// The two endpoints for completions.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Kind {
    Chat,
    Text,
}

/// The fields of a request that are read.
#[derive(Debug, Deserialize)]
struct CompletionRequest {
    model: String,
    #[serde(default)]
    stream: bool,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
    #[serde(default)]
    stream_options: StreamOptions,
    #[serde(default)]
    messages: Vec<Value>,
    #[serde(default)]
    prompt: Value,
}

#[derive(Debug, Default, Deserialize)]
struct StreamOptions {
    #[serde(default)]
    include_usage: bool,
}

pub(super) fn models(service: &ModelService) -> Response<Body> {
    let model = json!({"id": service.model, "object": "model", "created": 0, "owned_by": "sluice"});
    json_response(StatusCode::OK, &json!({"object": "list", "data": [model]}))
}

pub(super) async fn complete(
    service: &ModelService,
    kind: Kind,
    request: Request<Incoming>,
) -> Response<Body> {
    let request = match read_body(request).await {
        Ok(body) => serde_json::from_slice::<CompletionRequest>(&body).map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    };
    let request = match request {
        Ok(request) => request,
        Err(error) => return refuse(StatusCode::BAD_REQUEST, &error),
    };
    if request.model != service.model {
        let message = format!("model `{}` is unknown; this server has `{}`", request.model, service.model);
        return refuse(StatusCode::NOT_FOUND, &message);
    }
    if !service.is_loaded() {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "the model is still loading; ask /v2/health/ready");
    }
    let generation = service.generator.start(request.max_completion_tokens.or(request.max_tokens)).await;
    let completion = Completion::new(service, kind, &request, &generation);
    if request.stream {
        stream(completion, generation, request.stream_options.include_usage)
    } else {
        whole(&completion, generation).await
    }
}

/// Parts that all documents and events of one completion share.
struct Completion {
    kind: Kind,
    head: Value,
    finish_reason: &'static str,
    usage: Value,
}

impl Completion {
    fn new(service: &ModelService, kind: Kind, request: &CompletionRequest, generation: &Generation) -> Self {
        let (number, tokens) = (generation.number(), generation.tokens());
        let created = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let id = match kind {
            Kind::Chat => format!("chatcmpl-{number}"),
            Kind::Text => format!("cmpl-{number}"),
        };
        let prompt =
            words(&request.prompt) + request.messages.iter().map(|m| words(&m["content"])).sum::<usize>();
        let usage =
            json!({"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens});
        let is_short = tokens < service.generator.full_tokens();
        Self {
            kind,
            head: json!({"id": id, "created": created, "model": service.model}),
            finish_reason: if is_short { "length" } else { "stop" },
            usage,
        }
    }

    /// Returns a document with these choices.
    fn document(&self, object: &str, choices: Value) -> Value {
        let mut document = self.head.clone();
        document["object"] = object.into();
        document["choices"] = choices;
        document
    }

    /// Returns the event for a token; `None` makes the last one.
    fn chunk(&self, token: Option<usize>) -> Value {
        let finish_reason = if token.is_none() { json!(self.finish_reason) } else { Value::Null };
        let text = token.map(word);
        let (object, mut choice) = match self.kind {
            Kind::Chat => {
                let mut delta = json!({});
                if token == Some(0) {
                    delta["role"] = "assistant".into();
                }
                if let Some(text) = text {
                    delta["content"] = text.into();
                }
                ("chat.completion.chunk", json!({"delta": delta}))
            }
            Kind::Text => ("text_completion", json!({"text": text.unwrap_or_default()})),
        };
        choice["index"] = 0.into();
        choice["finish_reason"] = finish_reason;
        self.document(object, json!([choice]))
    }
}

async fn whole(completion: &Completion, mut generation: Generation) -> Response<Body> {
    let mut text = String::new();
    while let Some(token) = generation.next().await {
        text.push_str(&word(token));
    }
    let (object, mut choice) = match completion.kind {
        Kind::Chat => ("chat.completion", json!({"message": {"role": "assistant", "content": text}})),
        Kind::Text => ("text_completion", json!({"text": text})),
    };
    choice["index"] = 0.into();
    choice["finish_reason"] = completion.finish_reason.into();
    let mut document = completion.document(object, json!([choice]));
    document["usage"] = completion.usage.clone();
    json_response(StatusCode::OK, &document)
}

/// Next event of a stream.
enum Next {
    Token(Generation),
    Usage,
    Done,
}

fn stream(completion: Completion, generation: Generation, include_usage: bool) -> Response<Body> {
    let begin = (Some(Next::Token(generation)), completion);
    let events = futures::stream::unfold(begin, move |(next, completion)| async move {
        let (event, next) = match next? {
            Next::Token(mut generation) => match generation.next().await {
                Some(token) => (completion.chunk(Some(token)).to_string(), Some(Next::Token(generation))),
                None => {
                    let next = if include_usage { Next::Usage } else { Next::Done };
                    (completion.chunk(None).to_string(), Some(next))
                }
            },
            Next::Usage => {
                let object = match completion.kind {
                    Kind::Chat => "chat.completion.chunk",
                    Kind::Text => "text_completion",
                };
                let mut document = completion.document(object, json!([]));
                document["usage"] = completion.usage.clone();
                (document.to_string(), Some(Next::Done))
            }
            Next::Done => ("[DONE]".to_owned(), None),
        };
        let frame = Frame::data(Bytes::from(format!("data: {event}\n\n")));
        Some((Ok::<_, Infallible>(frame), (next, completion)))
    });
    let mut response = Response::new(StreamBody::new(events).boxed_unsync());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response
}

/// Returns the text of a token.
fn word(token: usize) -> String {
    if token == 0 { "t0".to_owned() } else { format!(" t{token}") }
}

/// Counts the words of a prompt: a text, or a list of texts or of parts with a `text`.
fn words(content: &Value) -> usize {
    match content {
        Value::String(text) => text.split_whitespace().count(),
        Value::Array(parts) => parts.iter().map(words).sum(),
        Value::Object(part) => part.get("text").map_or(0, words),
        _ => 0,
    }
}

/// Returns an error in the form that OpenAI's clients read.
fn refuse(status: StatusCode, message: &str) -> Response<Body> {
    let error = json!({"message": message, "type": "invalid_request_error", "param": null, "code": null});
    json_response(status, &json!({ "error": error }))
}

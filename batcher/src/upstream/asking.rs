//! Questions to a model server about models that clients have named. They go over separate connections, so that they do
//! not hold up the control connection.

use std::sync::atomic::Ordering;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, StatusCode, header};
use sluice_protocol::{Api, WireFormat, json_error};

use super::connection::{UpstreamResponse, Wire};
use super::control::{ControlConnection, ControlEndpoint, ControlError};
use super::{Epoch, Upstream};

/// Maximum number of connections that are kept between questions.
const MOST_KEPT: usize = 2;
/// Maximum bytes that are kept of an answer.
const MOST_ANSWER_BYTES: usize = 1024;
/// Headers that are kept of an answer.
const KEPT_HEADERS: [HeaderName; 3] =
    [header::CONTENT_TYPE, HeaderName::from_static("grpc-status"), HeaderName::from_static("grpc-message")];

/// Idle connections for such questions, each with the number of its epoch.
#[derive(Debug, Default)]
pub(super) struct Asking(Mutex<Vec<(u64, ControlConnection)>>);

/// What a model server says of a model that it does not have.
#[derive(Debug, Clone, Default)]
pub struct Denial {
    /// Whether the server is known to answer such questions, so that it really lacks the model. If false, it may have
    /// the model all the same.
    pub is_certain: bool,
    /// The server's answer to an inference request for the model, or to the question for its metadata.
    pub answer: Option<UpstreamResponse>,
    /// The server's answer to the V1 status question, if that was asked.
    pub v1: Option<UpstreamResponse>,
}

impl Denial {
    /// Returns whether the answer says nothing about the model: the server does not support the question, or does not
    /// allow it. Then other servers are not waited for, because this one may have the model.
    pub fn says_nothing(&self) -> bool {
        use StatusCode as Status;
        let nothing =
            [Status::UNAUTHORIZED, Status::FORBIDDEN, Status::METHOD_NOT_ALLOWED, Status::NOT_IMPLEMENTED];
        self.answer.as_ref().is_some_and(|answer| nothing.contains(&answer.status))
    }

    /// Returns how little the denial says against the model, 0 to 2. Of several denials, the one with most doubt
    /// counts.
    pub fn doubt(&self) -> u8 {
        u8::from(!self.is_certain) + u8::from(self.says_nothing())
    }

    /// Returns the server's own answer for a request in this wire format.
    pub fn answer(&self, form: WireFormat) -> Option<UpstreamResponse> {
        let v1 = self.v1.as_ref().filter(|_| form.protocol().api() == Api::V1);
        v1.or(self.answer.as_ref()).cloned()
    }
}

/// Whether a model server has a model.
#[derive(Debug)]
pub enum Has {
    /// The server says that it has the model.
    Yes,
    /// The server does not say that it has the model.
    No(Box<Denial>),
}

/// Whether a version of a model is ready.
#[derive(Debug)]
pub struct VersionReadiness {
    /// Whether the server says that the version is ready.
    pub is_ready: bool,
    /// The server's answer.
    pub answer: UpstreamResponse,
}

impl Upstream {
    /// Asks the server whether it has a model: for its V2 metadata, then its V1 status, then OpenAI's list of models.
    ///
    /// # Errors
    /// Fails if the server does not answer, or answers with 429 or a 5xx other than 501.
    pub async fn has_model(
        &self,
        epoch: &Epoch,
        model: &str,
        own_headers: &HeaderMap,
    ) -> Result<Has, ControlError> {
        let mut control = self.asking(epoch, own_headers).await?;
        let answer = control.ask_for_metadata(model).await?;
        if answer.status.is_success() {
            self.tells_v2.store(epoch.number, Ordering::Relaxed);
            self.keep_asking(epoch, control);
            return Ok(Has::Yes);
        }
        let mut denial = Denial { is_certain: false, answer: Some(answer), v1: None };
        // A server that is known to answer the V2 question needs no other one.
        let tells = |which: &std::sync::atomic::AtomicU64| which.load(Ordering::Relaxed) == epoch.number;
        denial.is_certain = tells(&self.tells_v2);
        if !denial.is_certain && control.wire() == Wire::Rest {
            let v1 = control.ask_for_v1(model).await?;
            let is_listed = if v1.status.is_success() { Some(true) } else { control.lists(model).await? };
            if is_listed == Some(true) {
                self.tells.store(epoch.number, Ordering::Relaxed);
                self.keep_asking(epoch, control);
                return Ok(Has::Yes);
            }
            denial.is_certain = is_listed.is_some() || tells(&self.tells);
            denial.v1 = Some(v1);
        }
        let answers = [denial.answer.as_ref(), denial.v1.as_ref()].into_iter().flatten();
        for status in answers.map(|answer| answer.status) {
            if status == StatusCode::TOO_MANY_REQUESTS
                || (status.is_server_error() && status != StatusCode::NOT_IMPLEMENTED)
            {
                return Err(ControlError::Busy(status));
            }
            // Any other status is about the caller or the question, and says nothing about the model.
            denial.is_certain &= [StatusCode::NOT_FOUND, StatusCode::BAD_REQUEST].contains(&status);
        }
        self.keep_asking(epoch, control);
        denial.answer = denial.answer.map(shortened);
        denial.v1 = denial.v1.map(shortened);
        Ok(Has::No(Box::new(denial)))
    }

    /// Returns the server's own error response to an inference request for a model that it does not have; `None` if it
    /// does not answer with 404, or speaks gRPC.
    ///
    /// # Errors
    /// Fails if the server does not answer.
    pub async fn words_of_denial(
        &self,
        epoch: &Epoch,
        model: &str,
        own_headers: &HeaderMap,
    ) -> Result<Option<UpstreamResponse>, ControlError> {
        let mut control = self.asking(epoch, own_headers).await?;
        let answer = control.ask_to_infer(model).await?;
        self.keep_asking(epoch, control);
        Ok(answer.map(shortened))
    }

    /// Asks the server whether a version of a model is ready.
    ///
    /// # Errors
    /// Fails if the server does not answer.
    pub async fn version_readiness(
        &self,
        epoch: &Epoch,
        model: &str,
        version: &str,
        own_headers: &HeaderMap,
    ) -> Result<VersionReadiness, ControlError> {
        let mut control = self.asking(epoch, own_headers).await?;
        let (is_ready, answer) = control.version_is_ready(model, version).await?;
        self.keep_asking(epoch, control);
        Ok(VersionReadiness { is_ready, answer: shortened(answer) })
    }

    /// Notes that the server has confirmed one of its models in this epoch: by V2 metadata if `v2`, else in another
    /// way.
    pub(super) fn has_told(&self, epoch: u64, v2: bool) {
        if v2 { &self.tells_v2 } else { &self.tells }.store(epoch, Ordering::Relaxed);
    }

    async fn asking(
        &self,
        epoch: &Epoch,
        own_headers: &HeaderMap,
    ) -> Result<ControlConnection, ControlError> {
        let kept = {
            let mut kept = self.asking.0.lock().unwrap_or_else(PoisonError::into_inner);
            kept.retain(|(number, _)| *number == epoch.number);
            kept.pop()
        };
        match kept {
            Some((_, control)) => Ok(control),
            None => {
                let place = ControlEndpoint::resolve(epoch.wire, self.probe_address(), own_headers).await?;
                let control = ControlConnection::open(place).await?;
                match control.listeners() == epoch.identity.listeners {
                    true => Ok(control),
                    false => Err(ControlError::Changed(epoch.asked_at().clone())),
                }
            }
        }
    }

    fn keep_asking(&self, epoch: &Epoch, control: ControlConnection) {
        let mut kept = self.asking.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() < MOST_KEPT {
            kept.push((epoch.number, control));
        }
    }
}

/// Cuts an answer to what is passed on to clients.
fn shortened(mut answer: UpstreamResponse) -> UpstreamResponse {
    let kept = KEPT_HEADERS.into_iter().filter_map(|name| {
        let value = answer.headers.get(&name)?.clone();
        Some((name, value))
    });
    let mut headers: HeaderMap = kept.collect();
    if answer.body.len() > MOST_ANSWER_BYTES {
        let text: String =
            String::from_utf8_lossy(&answer.body).chars().take(MOST_ANSWER_BYTES / 4).collect();
        answer.body = json_error(&text);
        headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    } else {
        // Copied, because the answer may be part of a larger buffer.
        answer.body = Bytes::copy_from_slice(&answer.body);
    }
    UpstreamResponse { headers, ..answer }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_least_against_a_model_leaves_most_doubt() {
        let says = |status, is_certain| {
            let answer = UpstreamResponse { status, headers: HeaderMap::new(), body: Bytes::new() };
            Denial { is_certain, answer: Some(answer), v1: None }
        };
        let certain = says(StatusCode::NOT_FOUND, true);
        let uncertain = says(StatusCode::NOT_FOUND, false);
        assert!(certain.doubt() < uncertain.doubt() && !uncertain.says_nothing());
        for status in [StatusCode::METHOD_NOT_ALLOWED, StatusCode::FORBIDDEN, StatusCode::NOT_IMPLEMENTED] {
            let silent = says(status, false);
            assert!(silent.says_nothing() && silent.doubt() > uncertain.doubt(), "{status}");
        }
    }

    #[test]
    fn of_an_answer_no_more_is_kept_than_an_error_needs() {
        let headers = HeaderMap::from_iter([
            (header::CONTENT_TYPE, "text/html".parse().unwrap()),
            (header::SET_COOKIE, "secret=1".parse().unwrap()),
        ]);
        let status = StatusCode::NOT_FOUND;
        let short =
            shortened(UpstreamResponse { status, headers: headers.clone(), body: Bytes::from_static(b"no") });
        assert_eq!((&short.body[..], short.headers.len()), (&b"no"[..], 1));
        let long = shortened(UpstreamResponse { status, headers, body: vec![b'x'; 1 << 20].into() });
        assert!(long.body.len() <= MOST_ANSWER_BYTES && long.headers["content-type"] == "application/json");
    }
}

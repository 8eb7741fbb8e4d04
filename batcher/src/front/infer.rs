//! An inference request: read it whole, parse it, decide whether to take it in, queue it, wait for its answer.

use http::header::CONTENT_LENGTH;
use http::request::Parts;
use http::{Request, Response};
use hyper::body::Incoming;
use sluice_batch_policy::{Admission, ShapeClass};
use sluice_protocol::grpc::decode_unary;
use sluice_protocol::{
    Form, HEADER_LENGTH, InferRequest, ParseError, Target, parse_binary, parse_grpc, parse_json, parse_raw,
};
use tokio::sync::oneshot;

use super::Front;
use super::answer::{answer, failed, grpc_status};
use super::body::FrontBody;
use super::receive::{ReceiveError, receive};
use crate::metrics::{Outcome, Refusal};
use crate::queue::{Entry, Failure, ModelHandle, Reply, Work};
use crate::settings::WhileCold;

/// When to try again where nothing is held: a model server takes seconds to be warm, another replica none.
const COLD_RETRY_MS: u64 = 1000;

impl Front {
    /// REST, JSON or binary.
    pub(super) async fn infer_rest(&self, target: Target, request: Request<Incoming>) -> Response<FrontBody> {
        let (parts, body) = request.into_parts();
        let header_length = match parts.headers.get(HEADER_LENGTH).map(|value| value.to_str().map(str::parse))
        {
            None => None,
            Some(Ok(Ok(length))) => Some(length),
            Some(_) => {
                let message = format!("{HEADER_LENGTH} must be a number of bytes");
                return failed(Form::Binary, &Failure::new(400, message));
            }
        };
        let form = if header_length.is_some() { Form::Binary } else { Form::Json };
        let Some(handle) = self.registry.get_or_add(&target.model) else {
            let request = Request::from_parts(parts, body);
            return self.pass(request).await;
        };
        let body = match receive(body, self.settings.now().max_body_bytes).await {
            Ok(body) => body,
            Err(error) => return self.unreceived(&handle, form, &error),
        };
        let parsed = match header_length {
            None => parse_json(&target, body.clone(), &self.limits),
            Some(0) => parse_raw(&target, body.clone(), &self.limits, handle.signature().as_deref()),
            Some(length) => parse_binary(&target, length, body.clone(), &self.limits),
        };
        let work = match parsed {
            Ok(request) => Work::Parsed(request),
            Err(error) if error.is_forwardable() => Work::Raw(body),
            Err(error) => return self.unparsed(&handle, form, &error),
        };
        self.queue(&handle, form, work, Some(parts)).await
    }

    /// gRPC `ModelInfer`.
    pub(super) async fn infer_grpc(&self, request: Request<Incoming>) -> Response<FrontBody> {
        let timeout_us = grpc_timeout_us(&request);
        let body = match receive(request.into_body(), self.settings.now().max_body_bytes).await {
            Ok(body) => body,
            Err(error) => {
                return failed(Form::Grpc, &Failure::new(receive_status(&error), error.to_string()));
            }
        };
        let message = match decode_unary(body, self.settings.now().max_body_bytes) {
            Ok(message) => message,
            Err(error) => return grpc_status(error.code(), &error.to_string()),
        };
        let mut request = match parse_grpc(message, &self.limits) {
            Ok(request) => request,
            Err(error) => return failed(Form::Grpc, &Failure::new(error.http_status(), error.to_string())),
        };
        request.timeout_us = request.timeout_us.or(timeout_us);
        let Some(handle) = self.registry.get_or_add(&request.target.model) else {
            let message = format!("model {:?} is not known, and maxModels is reached", request.target.model);
            return failed(Form::Grpc, &Failure::new(404, message));
        };
        self.queue(&handle, Form::Grpc, Work::Parsed(request), None).await
    }

    pub(super) async fn queue(
        &self,
        handle: &ModelHandle,
        form: Form,
        work: Work,
        origin: Option<Parts>,
    ) -> Response<FrontBody> {
        let arrived_us = self.clock.now_us();
        let (rows, timeout_us) = match &work {
            Work::Parsed(request) => (rows_of(request), request.timeout_us.filter(|&timeout| timeout > 0)),
            Work::Raw(_) => (1, None),
        };
        let budget_us = timeout_us.unwrap_or(self.settings.now().objective_ms * 1000);
        let deadline_us = arrived_us.saturating_add(budget_us);
        handle.metrics.demand_rows.increment(u64::from(rows));
        let unanswered = Unanswered { handle, form, arrived_us };
        let reply = match self.admit(handle, form, work, rows, origin, arrived_us, deadline_us) {
            Ok(waiting) => waiting.await.unwrap_or_else(|_| {
                Reply::Failed(Failure::new(503, "the batcher stopped before the request was served"))
            }),
            Err(failure) => Reply::Failed(failure),
        };
        if let Reply::Failed(Failure { refusal: Some(reason), .. }) = &reply {
            handle.metrics.count_refused(*reason);
        }
        let (response, status) = answer(form, reply);
        // Answered: counted as such below.
        std::mem::forget(unanswered);
        let elapsed_us = self.clock.now_us().saturating_sub(arrived_us);
        let outcome = Outcome::of_status(status);
        handle.metrics.request_seconds.record(elapsed_us as f64 / 1e6);
        handle.metrics.count_request(form, outcome);
        // A client's own mistake says nothing about whether the objective is met.
        if outcome != Outcome::ClientError {
            handle.count_attainment(
                outcome == Outcome::Ok && elapsed_us <= self.settings.now().objective_ms * 1000,
            );
        }
        response
    }

    #[allow(clippy::too_many_arguments)] // One call site; a struct would only name them twice.
    fn admit(
        &self,
        handle: &ModelHandle,
        form: Form,
        work: Work,
        rows: u32,
        origin: Option<Parts>,
        arrived_us: u64,
        deadline_us: u64,
    ) -> Result<oneshot::Receiver<Reply>, Failure> {
        if self.settings.now().while_cold == WhileCold::Reject && handle.is_cold() {
            return Err(Failure::refused(503, Refusal::Cold, "no model server is warm here", COLD_RETRY_MS));
        }
        let class = match &work {
            Work::Parsed(request) if request.alone.is_none() => {
                Some(ShapeClass::of_elements(request.elements_per_row()))
            }
            _ => None,
        };
        if let Admission::Reject { retry_after_us, .. } = handle.admit(arrived_us, deadline_us, rows, class) {
            return Err(Failure::refused(
                429,
                Refusal::TooLate,
                "the answer would come after the deadline: the model server is saturated",
                retry_after_us.div_ceil(1000).max(1),
            ));
        }
        let size = match &work {
            Work::Parsed(request) => request.body.len(),
            Work::Raw(body) => body.len(),
        };
        let Some(bytes) = self.bytes.take(size) else {
            let message = format!(
                "waiting requests hold {} bytes already (queueBytes)",
                self.settings.now().queue_bytes
            );
            let retry_after_ms = handle.retry_after_ms(arrived_us);
            return Err(Failure::refused(429, Refusal::BytesFull, message, retry_after_ms));
        };
        let (reply, waiting) = oneshot::channel();
        let entry = Entry {
            work,
            form,
            rows,
            origin,
            arrived_us,
            deadline_us,
            broken: 0,
            alone: false,
            reply,
            bytes,
        };
        match handle.submit(Box::new(entry)) {
            Ok(()) => Ok(waiting),
            Err(_) => {
                let message = format!(
                    "the queue of the model is full: {} requests wait (queueRequests)",
                    self.settings.now().queue_requests
                );
                let retry_after_ms = handle.retry_after_ms(arrived_us);
                Err(Failure::refused(429, Refusal::QueueFull, message, retry_after_ms))
            }
        }
    }

    pub(super) fn unreceived(
        &self,
        handle: &ModelHandle,
        form: Form,
        error: &ReceiveError,
    ) -> Response<FrontBody> {
        if matches!(error, ReceiveError::TooLarge { .. }) {
            handle.metrics.count_refused(Refusal::BodyTooLarge);
        }
        let failure = Failure::new(receive_status(error), error.to_string());
        handle.metrics.count_request(form, Outcome::of_status(failure.status));
        failed(form, &failure)
    }

    pub(super) fn unparsed(
        &self,
        handle: &ModelHandle,
        form: Form,
        error: &ParseError,
    ) -> Response<FrontBody> {
        let failure = Failure::new(error.http_status(), error.to_string());
        handle.metrics.count_request(form, Outcome::of_status(failure.status));
        failed(form, &failure)
    }
}

/// A request whose client waits. The server drops it with the rest when the client goes away: it is counted then,
/// and has missed its objective where the client waited as long as that.
struct Unanswered<'a> {
    handle: &'a ModelHandle,
    form: Form,
    arrived_us: u64,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        self.handle.metrics.count_request(self.form, Outcome::Cancelled);
        let waited_us = self.handle.clock.now_us().saturating_sub(self.arrived_us);
        if waited_us > self.handle.settings.now().objective_ms * 1000 {
            self.handle.count_attainment(false);
        }
    }
}

fn receive_status(error: &ReceiveError) -> u16 {
    match error {
        ReceiveError::TooLarge { .. } => 413,
        ReceiveError::Broken(_) => 400,
    }
}

fn rows_of(request: &InferRequest) -> u32 {
    u32::try_from(request.rows).unwrap_or(u32::MAX).max(1)
}

/// `grpc-timeout`: at most eight digits and a unit.
fn grpc_timeout_us<B>(request: &Request<B>) -> Option<u64> {
    let value = request.headers().get("grpc-timeout")?.to_str().ok()?;
    parse_grpc_timeout(value)
}

fn parse_grpc_timeout(value: &str) -> Option<u64> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    if digits.len() > 8 {
        return None;
    }
    let amount: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => amount * 3_600_000_000,
        "M" => amount * 60_000_000,
        "S" => amount * 1_000_000,
        "m" => amount * 1_000,
        "u" => amount,
        "n" => amount / 1_000,
        _ => return None,
    })
}

/// Whether a request says that it has a body longer than the limit, before any of it is read.
pub(super) fn declares_more_than<B>(request: &Request<B>, limit_bytes: usize) -> bool {
    request
        .headers()
        .get(CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
        .is_some_and(|length| length > limit_bytes as u64)
}

#[cfg(test)]
mod tests {
    use super::parse_grpc_timeout;

    #[test]
    fn grpc_timeouts_are_read_in_all_units() {
        assert_eq!(parse_grpc_timeout("250m"), Some(250_000));
        assert_eq!(parse_grpc_timeout("1S"), Some(1_000_000));
        assert_eq!(parse_grpc_timeout("99999999H"), Some(99_999_999 * 3_600_000_000));
        for invalid in ["", "S", "5", "123456789S", "1x", "-1S"] {
            assert_eq!(parse_grpc_timeout(invalid), None, "{invalid}");
        }
    }
}

//! One HTTP/2 connection to an upstream for unary gRPC calls, one at a time.
//!
//! Each slot has its own connection, so that a batch does not wait behind the bytes of another one, and a connection
//! that breaks takes only one batch with it. HTTP/2 has frames that need a reply while no call is under way (pings,
//! settings), so each connection has a task for them; it ends when the connection is dropped.

use bytes::{Bytes, BytesMut};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use sluice_protocol::grpc::{CONTENT_TYPE, Code, PREFIX_BYTES, decode_message, decode_unary};
use sluice_protocol::json_error;
use tokio::sync::watch;

use super::{Chunks, ExchangeError, UpstreamResponse, describe};
use crate::hop_by_hop;
use crate::media_type::{self, Grpc};
use crate::upstream::endpoint::Endpoint;

/// Size of the receive windows: large answers must not wait for window updates.
const WINDOW_BYTES: u32 = 16 << 20;
/// Largest frame that the server may send.
const FRAME_BYTES: u32 = 1 << 20;
/// Header of the status, in trailers or (without a message) in the answer's head.
pub(super) const STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// Header of the status message.
const MESSAGE: HeaderName = HeaderName::from_static("grpc-message");

/// An open connection, idle between calls.
pub struct GrpcConnection {
    sender: http2::SendRequest<Chunks>,
    /// Closed by the connection's task when it ends.
    ended: watch::Receiver<()>,
}

impl std::fmt::Debug for GrpcConnection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GrpcConnection").field("closed", &self.is_closed()).finish_non_exhaustive()
    }
}

impl GrpcConnection {
    /// Connects to an endpoint. Whether the peer speaks HTTP/2 shows only with the first call.
    ///
    /// # Errors
    /// Returns the system's error: refused, unreachable, …
    pub async fn open(endpoint: &Endpoint) -> std::io::Result<Self> {
        let stream = TokioIo::new(endpoint.connect().await?);
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES)
            .max_frame_size(FRAME_BYTES)
            .handshake(stream)
            .await
            .map_err(std::io::Error::other)?;
        let (alive, ended) = watch::channel(());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error = describe(&error), "A gRPC connection ended.");
            }
            drop(alive);
        });
        Ok(Self { sender, ended })
    }

    /// Returns whether the peer has closed the connection.
    pub fn is_closed(&self) -> bool {
        self.sender.is_closed() || self.ended.has_changed().is_err()
    }

    /// Waits until the peer closes the idle connection.
    pub async fn until_closed(&mut self) {
        while self.ended.changed().await.is_ok() {}
    }

    /// Sends one call and reads the whole answer, of at most `limit_bytes`. The request's path is that of the method;
    /// its body is one framed message. The answer is translated to an HTTP one: its body is the message without the
    /// frame. A status other than `OK` becomes the corresponding HTTP status with the protocol's JSON error as body.
    /// The gRPC status and all trailers are kept in the headers.
    ///
    /// # Errors
    /// See [`ExchangeError`]; after any of them the connection is to be dropped.
    pub async fn exchange(
        &mut self,
        request: Request<Chunks>,
        limit_bytes: usize,
    ) -> Result<UpstreamResponse, ExchangeError> {
        if self.is_closed() {
            return Err(ExchangeError::Unsent(Box::new(request)));
        }
        let request = call(request)?;
        let mut ended = self.ended.clone();
        let ended = async move { while ended.changed().await.is_ok() {} };
        // After the connection's task has ended, nothing wakes a call that still waits for it.
        tokio::select! {
            biased;
            answer = self.ask(request, limit_bytes) => answer,
            () = ended => Err(ExchangeError::Broken("the connection ended".into())),
        }
    }

    async fn ask(
        &mut self,
        request: Request<Chunks>,
        limit_bytes: usize,
    ) -> Result<UpstreamResponse, ExchangeError> {
        let again = request.clone();
        let response = self.sender.try_send_request(request).await.map_err(|mut failed| {
            let unsent = failed.take_message();
            match unsent.or_else(|| is_unprocessed(failed.error()).then_some(again)) {
                Some(unsent) => ExchangeError::Unsent(Box::new(unsent)),
                None => ExchangeError::Broken(describe(failed.error())),
            }
        })?;
        let (body, trailers, response) = read(response, limit_bytes).await?;
        Ok(answer(response, body, trailers, limit_bytes))
    }
}

/// Returns whether the server has said that it has not processed the call: it was closing the connection when the call
/// came (GOAWAY), or refused the stream (RFC 9113, section 8.7).
fn is_unprocessed(error: &hyper::Error) -> bool {
    let cause = std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|error| {
        let reason = error.reason();
        (error.is_go_away() && error.is_remote() && reason == Some(h2::Reason::NO_ERROR))
            || (error.is_reset() && reason == Some(h2::Reason::REFUSED_STREAM))
    })
}

/// Rewrites a request to a gRPC call.
fn call(request: Request<Chunks>) -> Result<Request<Chunks>, ExchangeError> {
    let (mut parts, body) = request.into_parts();
    let broken = |error| ExchangeError::Broken(format!("the call's head is not valid in HTTP/2: {error}"));
    to_grpc(&mut parts, &HeaderValue::from_static("localhost")).map_err(broken)?;
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(CONTENT_TYPE));
    Ok(Request::from_parts(parts, body))
}

/// Rewrites the head of a request, of any HTTP version, to that of a gRPC call: `Host` becomes `:authority` (`own_host`
/// if it is missing), headers of an HTTP/1 connection are removed, and `te: trailers` is added, without which gRPC's C
/// core rejects a call.
///
/// # Errors
/// Fails if the request names no host and `own_host` is not a valid authority.
pub(in crate::upstream) fn to_grpc(
    parts: &mut http::request::Parts,
    own_host: &HeaderValue,
) -> Result<(), http::Error> {
    hop_by_hop::strip(&mut parts.headers);
    parts.headers.remove(header::EXPECT);
    let host = parts.headers.remove(header::HOST);
    let named = parts.uri.authority().cloned();
    let named = named.or_else(|| Authority::try_from(host?.as_bytes()).ok());
    let authority = match named {
        Some(authority) => authority,
        None => Authority::try_from(own_host.as_bytes())?,
    };
    let path = parts.uri.path_and_query().map_or("/", |path| path.as_str());
    parts.uri = Uri::builder().scheme("http").authority(authority).path_and_query(path).build()?;
    parts.version = Version::HTTP_2;
    parts.extensions.clear();
    parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
    Ok(())
}

type Read = (Bytes, Option<HeaderMap>, http::response::Parts);

async fn read(response: Response<Incoming>, limit_bytes: usize) -> Result<Read, ExchangeError> {
    let (parts, mut incoming) = response.into_parts();
    let mut body = BytesMut::new();
    let mut trailers = None;
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| ExchangeError::Broken(describe(&error)))?;
        match frame.into_data() {
            Ok(data) => {
                if body.len() + data.len() > limit_bytes + PREFIX_BYTES {
                    return Err(ExchangeError::TooLarge { limit_bytes });
                }
                if body.is_empty() {
                    // The first frame contains the length of the message.
                    let length = data.get(1..PREFIX_BYTES).and_then(|length| length.try_into().ok());
                    let length = length.map_or(0, |length| u32::from_be_bytes(length) as usize);
                    body.reserve((length.min(limit_bytes) + PREFIX_BYTES).max(data.len()));
                }
                body.extend_from_slice(&data);
            }
            Err(frame) => trailers = frame.into_trailers().ok(),
        }
    }
    Ok((body.freeze(), trailers, parts))
}

/// Translates a gRPC answer to an HTTP one.
fn answer(
    response: http::response::Parts,
    body: Bytes,
    trailers: Option<HeaderMap>,
    limit_bytes: usize,
) -> UpstreamResponse {
    if media_type::grpc(&response.headers) != Grpc::Proto {
        let text = format!("the model server's answer is {} and not gRPC", response.status);
        let status = if response.status.is_success() { StatusCode::BAD_GATEWAY } else { response.status };
        return error(HeaderMap::new(), status, &text);
    }
    let mut headers = response.headers;
    if let Some(trailers) = trailers {
        headers.remove(STATUS);
        headers.extend(trailers);
    }
    let Some(code) = headers.get(STATUS).map(|status| Code::from_header(status.as_bytes())) else {
        return error(headers, StatusCode::BAD_GATEWAY, "the model server's answer has no grpc-status");
    };
    if code != Code::Ok {
        let text = headers.get(MESSAGE).map(|text| decode_message(text.as_bytes())).unwrap_or_default();
        return error(headers, http_status(code, &text), &text);
    }
    match decode_unary(body, limit_bytes) {
        Ok(body) => UpstreamResponse { status: StatusCode::OK, headers, body },
        Err(frame) => {
            headers.remove(STATUS);
            error(headers, StatusCode::BAD_GATEWAY, &format!("the model server's answer: {frame}"))
        }
    }
}

/// Translates a gRPC status to an HTTP one. A message beyond the server's size limit has no code of its own. It is told
/// apart from overload by the texts of the common libraries, because such a batch passes when it is halved.
fn http_status(code: Code, text: &str) -> StatusCode {
    let text = text.to_ascii_lowercase();
    let too_large = ["larger than max", "exceeds maximum size", "message length too large"];
    if matches!(code, Code::ResourceExhausted | Code::OutOfRange)
        && too_large.iter().any(|words| text.contains(words))
    {
        return StatusCode::PAYLOAD_TOO_LARGE;
    }
    StatusCode::from_u16(code.to_http()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn error(mut headers: HeaderMap, status: StatusCode, text: &str) -> UpstreamResponse {
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.remove(header::CONTENT_LENGTH);
    UpstreamResponse { status, headers, body: json_error(text) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_answer(
        head: &[(&'static str, &'static str)],
        trailers: &[(&'static str, &'static str)],
    ) -> UpstreamResponse {
        let map = |fields: &[(&'static str, &'static str)]| -> HeaderMap {
            fields
                .iter()
                .map(|&(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
                .collect()
        };
        let mut parts = Response::new(()).into_parts().0;
        parts.headers = map(head);
        answer(parts, Bytes::from_static(b"\0\0\0\0\x02hi"), Some(map(trailers)), 100)
    }

    #[test]
    fn a_success_is_its_message_and_an_error_the_protocols() {
        let grpc = ("content-type", "application/grpc+proto");
        let good = read_answer(&[grpc], &[("grpc-status", "0")]);
        assert_eq!((good.status, &good.body[..]), (StatusCode::OK, &b"hi"[..]));
        let bad = read_answer(&[grpc], &[("grpc-status", "3"), ("grpc-message", "50%25"), ("x-more", "1")]);
        assert_eq!((bad.status, &bad.body[..]), (StatusCode::BAD_REQUEST, &b"{\"error\":\"50%\"}"[..]));
        assert_eq!(
            (&bad.headers["grpc-status"], &bad.headers["x-more"]),
            (&"3".parse().unwrap(), &"1".parse().unwrap())
        );
    }

    #[test]
    fn what_is_no_grpc_is_a_bad_gateway() {
        for other in
            ["text/html", "application/grpcfoo", "application/grpc-web+proto", "application/grpc+json"]
        {
            let status = [("grpc-status", "0")];
            assert_eq!(read_answer(&[("content-type", other)], &status).status, StatusCode::BAD_GATEWAY);
        }
        assert_eq!(read_answer(&[("content-type", "application/grpc")], &[]).status, StatusCode::BAD_GATEWAY);
    }

    #[test]
    fn a_call_has_the_head_that_grpc_wants_whatever_the_request_came_over() {
        let head = |uri: &str, fields: &[(&str, &str)]| {
            let mut request = Request::post(uri);
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            let (mut parts, ()) = request.body(()).unwrap().into_parts();
            to_grpc(&mut parts, &HeaderValue::from_static("own:1")).unwrap();
            assert_eq!(
                (parts.version, &parts.headers["te"]),
                (Version::HTTP_2, &"trailers".parse().unwrap())
            );
            (parts.uri.to_string(), parts.headers.len())
        };
        let hops = [
            ("connection", "te, x-a"),
            ("te", "trailers"),
            ("x-a", "1"),
            ("keep-alive", "5"),
            ("expect", "x"),
        ];
        assert_eq!(head("/a/b?c", &hops), ("http://own:1/a/b?c".into(), 1));
        assert_eq!(head("/a", &[("host", "a:2")]), ("http://a:2/a".into(), 1));
        assert_eq!(head("/a", &[("host", "")]), ("http://own:1/a".into(), 1));
        assert_eq!(head("https://b/a", &[("host", "b"), ("x-b", "1")]), ("http://b/a".into(), 2));
    }

    #[test]
    fn a_message_beyond_the_servers_limit_is_told_from_overload() {
        for text in [
            "Received message larger than max (5000000 vs. 4194304)",
            "gRPC message exceeds maximum size 4194304: 5000000",
        ] {
            assert_eq!(http_status(Code::ResourceExhausted, text), StatusCode::PAYLOAD_TOO_LARGE);
        }
        assert_eq!(http_status(Code::ResourceExhausted, "queue full"), StatusCode::TOO_MANY_REQUESTS);
    }
}

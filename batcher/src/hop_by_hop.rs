//! Headers that are valid for one connection only: they are not passed on, neither in requests nor in responses (RFC
//! 9110, section 7.6.1).

use http::{HeaderMap, HeaderName, header};
use sluice_protocol::HEADER_LENGTH;

/// Headers of one connection, whether `Connection` names them or not. Credentials for a proxy are among them: the batcher
/// asks for none, and the client has not sent them to the model server.
const HOP_BY_HOP: [HeaderName; 10] = [
    header::CONNECTION,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHENTICATE,
    HeaderName::from_static("proxy-authentication-info"),
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Headers that name a message's sender or recipient or describe its body. They are meant for the final recipient and stay
/// even if `Connection` names them: without them it would read another message than was sent.
const END_TO_END: [HeaderName; 15] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::COOKIE,
    header::DATE,
    header::FORWARDED,
    header::HOST,
    header::SET_COOKIE,
    header::VIA,
    header::WWW_AUTHENTICATE,
    HeaderName::from_static(HEADER_LENGTH),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-request-id"),
];

/// Prefixes of the names of further such headers.
const END_TO_END_PREFIXES: [&str; 4] = ["content-", "grpc-", "x-forwarded-", "x-sluice-"];

/// Fields that trailers must not contain (RFC 9110, section 6.5.1): a recipient that treats trailers as headers would read
/// another message than was sent.
const HEADERS_ONLY: [HeaderName; 12] = [
    header::AUTHORIZATION,
    header::CACHE_CONTROL,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_RANGE,
    header::CONTENT_TYPE,
    header::COOKIE,
    header::EXPECT,
    header::HOST,
    header::MAX_FORWARDS,
    header::SET_COOKIE,
    header::TRAILER,
];

/// Removes the headers of one connection, and those that any line of `Connection` names.
pub fn strip(headers: &mut HeaderMap) {
    if headers.contains_key(header::CONNECTION) {
        let lines = headers.get_all(header::CONNECTION).iter();
        let named: Vec<HeaderName> = lines
            .flat_map(|line| line.as_bytes().split(|&byte| byte == b','))
            .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
            .filter(|name| !is_end_to_end(name))
            .collect();
        for name in named {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Removes from trailers the fields that are allowed in headers only, and those of one connection.
pub fn strip_trailers(trailers: &mut HeaderMap) {
    strip(trailers);
    for name in &HEADERS_ONLY {
        trailers.remove(name);
    }
}

fn is_end_to_end(name: &HeaderName) -> bool {
    END_TO_END.contains(name) || END_TO_END_PREFIXES.iter().any(|prefix| name.as_str().starts_with(prefix))
}

#[cfg(test)]
mod tests;

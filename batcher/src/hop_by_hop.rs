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
mod tests {
    use http::HeaderValue;

    use super::*;

    fn map(fields: &[(&'static str, &'static [u8])]) -> HeaderMap {
        let field = |&(name, value): &(&'static str, &'static [u8])| {
            (HeaderName::from_static(name), HeaderValue::from_bytes(value).unwrap())
        };
        fields.iter().map(field).collect()
    }

    fn names(headers: &HeaderMap) -> Vec<&str> {
        let mut names: Vec<&str> = headers.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn every_line_of_connection_counts_whatever_else_it_holds() {
        let mut headers = map(&[
            ("connection", b"close, X-One"),
            ("connection", b" , ,x-two\t,caf\xe9,a b"),
            ("connection", b"X-THREE"),
            ("x-one", b"1"),
            ("x-two", b"1"),
            ("x-three", b"1"),
            ("x-four", b"1"),
            ("x-four", b"2"),
        ]);
        strip(&mut headers);
        assert_eq!(names(&headers), ["x-four", "x-four"]);
    }

    #[test]
    fn what_says_whom_a_message_is_for_or_what_its_body_is_cannot_be_named_away() {
        let mut headers = map(&[
            (
                "connection",
                b"host, content-length, Content-Encoding, authorization, inference-header-content-length",
            ),
            ("connection", b"grpc-timeout, x-forwarded-for, cookie, x-sluice-tenant, x-other"),
            ("host", b"a"),
            ("content-length", b"1"),
            ("content-encoding", b"gzip"),
            ("authorization", b"a"),
            ("inference-header-content-length", b"1"),
            ("grpc-timeout", b"1S"),
            ("x-forwarded-for", b"a"),
            ("cookie", b"a"),
            ("x-sluice-tenant", b"a"),
            ("x-other", b"a"),
        ]);
        let before = headers.len();
        strip(&mut headers);
        assert_eq!(headers.len(), before - 3, "without the two lines and x-other: {headers:?}");
    }

    #[test]
    fn headers_of_one_connection_go_unnamed_too() {
        for name in HOP_BY_HOP {
            let mut headers = HeaderMap::from_iter([(name.clone(), HeaderValue::from_static("x"))]);
            strip(&mut headers);
            assert!(headers.is_empty(), "{name}");
        }
    }

    #[test]
    fn trailers_keep_what_is_a_trailer() {
        let mut trailers = map(&[
            ("grpc-status", b"0"),
            ("grpc-message", b"x"),
            ("x-checksum", b"1"),
            ("connection", b"close"),
            ("keep-alive", b"timeout=5"),
            ("transfer-encoding", b"chunked"),
            ("content-length", b"5"),
            ("host", b"a"),
            ("authorization", b"a"),
        ]);
        strip_trailers(&mut trailers);
        assert_eq!(names(&trailers), ["grpc-message", "grpc-status", "x-checksum"]);
    }
}

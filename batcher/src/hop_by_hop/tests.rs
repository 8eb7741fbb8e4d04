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

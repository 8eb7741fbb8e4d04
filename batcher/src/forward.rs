//! Heads of requests and responses that are passed on: end-to-end headers stay as they are, headers of one connection are
//! left out.

use http::request::Parts;
use http::{HeaderValue, Request, Uri, Version, header, response};

use crate::hop_by_hop;

/// Turns the head of a client's request into one for an HTTP/1.1 upstream: only the path as its target, with the right
/// `Host`.
pub fn to_http1(parts: &mut Parts) {
    let takes_trailers = parts.headers.get_all(header::TE).iter().any(|value| {
        let names = value.to_str().unwrap_or_default().split(',');
        names.map(str::trim).any(|name| name.eq_ignore_ascii_case("trailers"))
    });
    to_next_hop(parts);
    // `TE` is written anew for the next connection, and `Connection` must name it in HTTP/1.1.
    if takes_trailers {
        parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
}

/// Reduces a client's request to what is meant for the next recipient, whatever protocol that speaks. Headers of the next
/// connection are added where the request is sent.
fn to_next_hop(parts: &mut Parts) {
    hop_by_hop::strip(&mut parts.headers);
    // The batcher answers `100-continue` itself, by reading the body.
    parts.headers.remove(header::EXPECT);
    // An absolute target and HTTP/2 name the host that the request is for; beside an absolute target, `Host` may be wrong.
    if let Some(authority) = parts.uri.authority()
        && let Ok(host) = HeaderValue::from_str(authority.as_str())
    {
        parts.headers.insert(header::HOST, host);
    }
    parts.uri = path_only(&parts.uri);
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
}

fn path_only(uri: &Uri) -> Uri {
    match uri.path_and_query() {
        Some(path) => Uri::from(path.clone()),
        None => Uri::from_static("/"),
    }
}

/// Returns the model server's request with the head of a client's request and this body.
pub fn upstream_request<B>(origin: &Parts, body: B) -> Request<B> {
    let mut parts = origin.clone();
    to_next_hop(&mut parts);
    // The length is set again from the body, which was read whole; its trailers were not kept.
    parts.headers.remove(header::CONTENT_LENGTH);
    parts.headers.remove(header::TRAILER);
    Request::from_parts(parts, body)
}

/// Turns the head of a model server's response into one for the client. The HTTP version becomes that of the client's
/// connection.
pub fn to_client(parts: &mut response::Parts) {
    hop_by_hop::strip(&mut parts.headers);
    parts.version = Version::HTTP_11;
}

#[cfg(test)]
mod tests {
    use http::{HeaderMap, Response};

    use super::*;

    #[test]
    fn headers_of_one_connection_stay_behind_and_all_others_go_on() {
        let mut headers = HeaderMap::new();
        headers.insert("connection", HeaderValue::from_static("close, X-Secret"));
        headers.insert("x-secret", HeaderValue::from_static("1"));
        headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
        headers.append("x-many", HeaderValue::from_static("a"));
        headers.append("x-many", HeaderValue::from_static("b"));
        headers.insert("authorization", HeaderValue::from_static("Bearer t"));
        hop_by_hop::strip(&mut headers);
        assert_eq!(headers.len(), 3);
        assert_eq!(headers.get_all("x-many").iter().count(), 2);
        assert!(headers.contains_key("authorization"));
    }

    #[test]
    fn an_http2_request_gets_a_host_and_loses_its_authority() {
        let request = Request::builder().uri("http://model.example:80/v2/x?y=1").body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        to_http1(&mut parts);
        assert_eq!(parts.uri, "/v2/x?y=1");
        assert_eq!(parts.headers["host"], "model.example:80");
    }

    #[test]
    fn an_absolute_targets_authority_replaces_host() {
        let request =
            Request::builder().uri("http://a.example/x").header("host", "b.example").body(()).unwrap();
        let (mut parts, ()) = request.into_parts();
        to_http1(&mut parts);
        assert_eq!(
            (&parts.uri.to_string()[..], &parts.headers["host"]),
            ("/x", &"a.example".parse().unwrap())
        );
    }

    #[test]
    fn a_lone_request_says_nothing_of_its_next_connection() {
        let request = Request::builder()
            .uri("/x")
            .header("te", "trailers")
            .header("connection", "te")
            .header("expect", "100-continue")
            .header("trailer", "x-sum")
            .header("content-length", "5")
            .header("x-kept", "1");
        let (origin, ()) = request.body(()).unwrap().into_parts();
        let request = upstream_request(&origin, ());
        assert_eq!(request.headers().keys().map(|name| name.as_str()).collect::<Vec<_>>(), ["x-kept"]);
    }

    #[test]
    fn an_answer_has_the_version_of_the_clients_connection() {
        let answer =
            Response::builder().version(Version::HTTP_10).header("connection", "close").body(()).unwrap();
        let (mut parts, ()) = answer.into_parts();
        to_client(&mut parts);
        assert_eq!((parts.version, parts.headers.len()), (Version::HTTP_11, 0));
    }
}

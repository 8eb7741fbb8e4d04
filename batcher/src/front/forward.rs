//! Headers of requests and answers that are passed on: end-to-end ones as they are, hop-by-hop ones left out
//! (RFC 9110, section 7.6.1).

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Uri, Version, header};

use crate::upstream::connection::Chunks;

/// Headers that speak of one connection only.
const HOP_BY_HOP: [HeaderName; 6] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Removes hop-by-hop headers, and those that `Connection` names.
pub fn strip_hop_by_hop(headers: &mut HeaderMap) {
    if let Some(named) = headers.get(header::CONNECTION).cloned()
        && let Ok(named) = named.to_str()
    {
        for name in named.split(',').filter_map(|name| HeaderName::try_from(name.trim()).ok()) {
            headers.remove(name);
        }
    }
    for name in &HOP_BY_HOP {
        headers.remove(name);
    }
}

/// Makes the head of a client's request one for an HTTP/1.1 upstream: path only, with a `Host`.
pub fn to_http1(parts: &mut Parts) {
    let takes_trailers = parts.headers.get_all(header::TE).iter().any(|value| {
        let names = value.to_str().unwrap_or_default().split(',');
        names.map(str::trim).any(|name| name.eq_ignore_ascii_case("trailers"))
    });
    strip_hop_by_hop(&mut parts.headers);
    // We answer `100-continue` ourselves, by reading the body; TE is for this hop, where trailers are understood.
    parts.headers.remove(header::EXPECT);
    parts.headers.remove(header::TE);
    if takes_trailers {
        parts.headers.insert(header::TE, HeaderValue::from_static("trailers"));
        parts.headers.insert(header::CONNECTION, HeaderValue::from_static("te"));
    }
    if !parts.headers.contains_key(header::HOST)
        && let Some(authority) = parts.uri.authority()
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

/// A client's request as it came, for the model server.
pub fn upstream_request(origin: &Parts, body: Chunks) -> Request<Chunks> {
    let mut parts = origin.clone();
    to_http1(&mut parts);
    // Set again from the body, which was read whole.
    parts.headers.remove(header::CONTENT_LENGTH);
    Request::from_parts(parts, body)
}

#[cfg(test)]
mod tests {
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
        strip_hop_by_hop(&mut headers);
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
}

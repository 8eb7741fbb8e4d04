//! Check of the host that a request is for: its target, and the host that `Host` or an authority names (RFC 9112,
//! section 3.2; RFC 9113, section 8.3.1). Two readers that see two hosts in one request are as dangerous as two readers
//! that see two requests in one.

use std::net::Ipv6Addr;

use http::uri::{Authority, Scheme};
use http::{HeaderMap, HeaderValue, Method, Request, Uri, Version, header};

/// Reason for which the host of a request is unknown.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misaddressed {
    /// HTTP/1.1 requires `Host`.
    #[error("a request must have a Host header in HTTP/1.1")]
    NoHost,
    /// `Host` occurs several times.
    #[error("a request must have one Host header, not several")]
    SeveralHosts,
    /// `Host`, or the target's authority, is not `host[:port]`.
    #[error(
        "{0:?} is not a valid Host: it must be a name or an IP address, optionally with a colon and a port"
    )]
    InvalidHost(String),
    /// In HTTP/2 `Host` and `:authority` differ.
    #[error("Host {host:?} is not the request's :authority, {authority:?}")]
    TwoHosts {
        /// `Host`.
        host: String,
        /// `:authority`.
        authority: String,
    },
    /// The method does not allow this target.
    #[error("{0:?} is not a valid request target: use a path, http://host/path, or * with OPTIONS")]
    InvalidTarget(String),
}

/// Checks a request's target and the host that the request is for.
///
/// # Errors
/// See [`Misaddressed`]; all are answered with 400.
pub(super) fn check<B>(request: &Request<B>) -> Result<(), Misaddressed> {
    let (uri, version) = (request.uri(), request.version());
    let host = one_host(request.headers())?;
    if host.is_none() && version == Version::HTTP_11 {
        return Err(Misaddressed::NoHost);
    }
    // An empty `Host` is valid where the target has no authority.
    if let Some(host) = host.filter(|host| !host.is_empty() && !is_host(host.as_bytes())) {
        return Err(Misaddressed::InvalidHost(text(host)));
    }
    // `CONNECT` has targets of its own; it is refused as a whole.
    if request.method() != Method::CONNECT && !is_target(request.method(), uri, version) {
        return Err(Misaddressed::InvalidTarget(uri.to_string()));
    }
    let Some(authority) = uri.authority().map(Authority::as_str) else { return Ok(()) };
    if !is_host(authority.as_bytes()) {
        return Err(Misaddressed::InvalidHost(authority.to_owned()));
    }
    // In HTTP/1 the target's authority counts, whatever `Host` says; in HTTP/2 they must not differ.
    match host {
        Some(host)
            if version == Version::HTTP_2 && !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) =>
        {
            Err(Misaddressed::TwoHosts { host: text(host), authority: authority.to_owned() })
        }
        _ => Ok(()),
    }
}

fn one_host(headers: &HeaderMap) -> Result<Option<&HeaderValue>, Misaddressed> {
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (_, Some(_)) => Err(Misaddressed::SeveralHosts),
        (host, None) => Ok(host),
    }
}

fn text(value: &HeaderValue) -> String {
    String::from_utf8_lossy(value.as_bytes()).into_owned()
}

fn is_target(method: &Method, uri: &Uri, version: Version) -> bool {
    // HTTP/2 requests always name a scheme. In HTTP/1 any other scheme means a request to a proxy or to another kind of
    // server.
    let is_scheme_known = version == Version::HTTP_2
        || uri.scheme().is_none_or(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS);
    let path = uri.path();
    is_scheme_known && (path.starts_with('/') || (path == "*" && method == Method::OPTIONS))
}

/// Returns whether a value is `uri-host [":" port]` (RFC 9110, section 7.2). A comma is not allowed in it, because two
/// hosts in one line are joined by one.
fn is_host(value: &[u8]) -> bool {
    let Ok(value) = std::str::from_utf8(value) else { return false };
    let (is_valid, port) = match value.strip_prefix('[').map(|rest| rest.split_once(']')) {
        Some(None) => return false,
        Some(Some((address, port))) => (is_ip_literal(address), port),
        None => {
            let end = value.find(':').unwrap_or(value.len());
            (is_name(&value[..end]), &value[end..])
        }
    };
    is_valid && is_port(port)
}

/// Returns whether a text is empty or a colon with a port behind it; the port may be left out.
fn is_port(value: &str) -> bool {
    let Some(port) = value.strip_prefix(':') else { return value.is_empty() };
    port.bytes().all(|byte| byte.is_ascii_digit()) && (port.is_empty() || port.parse::<u16>().is_ok())
}

/// Returns whether a text may stand in brackets: an IPv6 address, optionally with a zone, or an address of a later IP
/// version (`v1.…`).
fn is_ip_literal(value: &str) -> bool {
    if let Some((version, address)) = value.strip_prefix(['v', 'V']).and_then(|rest| rest.split_once('.')) {
        return !version.is_empty()
            && version.bytes().all(|byte| byte.is_ascii_hexdigit())
            && !address.is_empty()
            && address.bytes().all(|byte| byte == b':' || is_name_byte(byte));
    }
    let (address, zone) = value.split_once("%25").unwrap_or((value, "0"));
    address.parse::<Ipv6Addr>().is_ok() && is_name(zone)
}

/// Returns whether a text is a host name of letters, digits and the other characters of RFC 3986's `reg-name`.
/// Percent-encoding is refused: no real host has it in its name, and readers differ in how they decode it.
fn is_name(value: &str) -> bool {
    !value.is_empty() && value.bytes().all(is_name_byte)
}

fn is_name_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+;=".contains(&byte)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn asked(version: Version, method: &str, uri: &str, hosts: &[&str]) -> Result<(), Misaddressed> {
        let mut request = Request::builder().version(version).method(method).uri(uri);
        for host in hosts {
            request = request.header("host", *host);
        }
        check(&request.body(()).unwrap())
    }

    #[test]
    fn each_version_has_its_rules() {
        let good = [
            (Version::HTTP_11, "GET", "/", &["a"][..]),
            (Version::HTTP_11, "GET", "/", &[""]),
            (Version::HTTP_11, "GET", "http://a/", &["b"]),
            (Version::HTTP_11, "OPTIONS", "*", &["a"]),
            (Version::HTTP_11, "CONNECT", "a:443", &["a:443"]),
            (Version::HTTP_10, "GET", "/", &[]),
            (Version::HTTP_2, "GET", "http://a/", &[]),
            (Version::HTTP_2, "GET", "http://a/", &["A"]),
            (Version::HTTP_2, "GET", "/", &["a"]),
            (Version::HTTP_2, "GET", "/", &[]),
        ];
        for (version, method, uri, hosts) in good {
            assert_eq!(asked(version, method, uri, hosts), Ok(()), "{version:?} {method} {uri} {hosts:?}");
        }
        let bad = [
            (Version::HTTP_11, "GET", "/", &[][..]),
            (Version::HTTP_11, "GET", "http://a/", &[]),
            (Version::HTTP_11, "CONNECT", "a:443", &[]),
            (Version::HTTP_10, "GET", "/", &["a", "a"]),
            (Version::HTTP_10, "GET", "/", &["a b"]),
            (Version::HTTP_11, "GET", "a:80", &["a:80"]),
            (Version::HTTP_11, "GET", "*", &["a"]),
            (Version::HTTP_11, "GET", "ftp://a/", &["a"]),
            (Version::HTTP_11, "GET", "http://u@a/", &["a"]),
            (Version::HTTP_11, "GET", "/", &["%61"]),
            (Version::HTTP_2, "GET", "http://a/", &["b"]),
            (Version::HTTP_2, "GET", "http://a/", &[""]),
            (Version::HTTP_2, "GET", "/", &["a", "b"]),
        ];
        for (version, method, uri, hosts) in bad {
            assert!(asked(version, method, uri, hosts).is_err(), "{version:?} {method} {uri} {hosts:?}");
        }
    }

    proptest! {
        #[test]
        fn a_host_can_be_read_as_no_other_part_of_a_uri(value in "\\PC{0,12}|[a-z0-9.:%@/?#\\[\\]]{0,8}") {
            if is_host(value.as_bytes()) {
                let others = "/?#@,\\\"<>{}|^` ";
                prop_assert!(!value.is_empty() && value.is_ascii() && !value.contains(|c| others.contains(c)), "{value:?}");
                let uri: Uri = format!("http://{value}/x").parse().unwrap();
                prop_assert_eq!((uri.authority().unwrap().as_str(), uri.path()), (&value[..], "/x"));
            }
        }
    }
}

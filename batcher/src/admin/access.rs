//! Access control of `/explain` on the admin port: its records show what clients asked for, and must not be readable
//! for everybody who may scrape metrics.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use http::{HeaderMap, StatusCode, header};
use sluice_process::admin::{AdminResponse, Peer, plain};
use subtle::ConstantTimeEq;

/// Headers that proxies add to a request that they pass on: the peer address then is not the client's.
const PASSED_ON: [&str; 4] = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];

/// Accepts a request that comes from the loopback interface directly, or that carries the token of `token_file`. The
/// file is read each time, so that it may be replaced.
///
/// # Errors
/// Returns the error response for all other requests.
pub(super) async fn check(
    peer: Option<&Peer>,
    headers: &HeaderMap,
    token_file: Option<&Path>,
) -> Result<(), AdminResponse> {
    let is_passed_on = PASSED_ON.iter().any(|name| headers.contains_key(*name));
    if !is_passed_on && peer.is_some_and(|peer| is_local(peer.0.ip())) {
        return Ok(());
    }
    let Some(file) = token_file else {
        let text = "requests are shown on the loopback interface alone, or for a token (adminTokenFile)\n";
        return Err(plain(StatusCode::FORBIDDEN, text));
    };
    let wanted = match tokio::fs::read_to_string(file).await {
        Ok(text) => text,
        Err(error) => {
            tracing::error!(file = %file.display(), %error, "Failed to read adminTokenFile; requests are shown to clients on the loopback interface only.");
            return Err(plain(StatusCode::FORBIDDEN, "the token cannot be checked; the log says why\n"));
        }
    };
    if is_bearer(headers, wanted.trim()) {
        return Ok(());
    }
    let text = "requests are shown for Authorization: Bearer with the token of adminTokenFile\n";
    let mut refusal = plain(StatusCode::UNAUTHORIZED, text);
    refusal.headers_mut().insert(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"));
    Err(refusal)
}

/// Returns whether a program of this machine (or pod) connects from this address itself. Other addresses of 127.0.0.0/8
/// belong to proxies in the pod, which pass on requests from outside.
fn is_local(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => address == Ipv4Addr::LOCALHOST,
        IpAddr::V6(address) => address.is_loopback(),
    }
}

/// Returns whether the request has this bearer token; compares in constant time. An empty token matches nothing.
fn is_bearer(headers: &HeaderMap, wanted: &str) -> bool {
    let given = headers.get(header::AUTHORIZATION).map(|value| value.as_bytes()).unwrap_or_default();
    let Some((scheme, token)) = given.split_at_checked(7) else { return false };
    let is_equal: bool = token.trim_ascii().ct_eq(wanted.as_bytes()).into();
    scheme.eq_ignore_ascii_case(b"bearer ") && !wanted.is_empty() && is_equal
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::*;

    fn peer(address: &str) -> Peer {
        Peer(SocketAddr::new(address.parse().unwrap(), 1))
    }

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(
            header::HeaderName::from_static(name),
            header::HeaderValue::from_static(value),
        )])
    }

    async fn status(peer: &Peer, headers: &HeaderMap, file: Option<&Path>) -> u16 {
        check(Some(peer), headers, file).await.map_or_else(|answer| answer.status().as_u16(), |()| 200)
    }

    #[tokio::test]
    async fn the_loopback_interface_asks_for_itself_and_others_with_the_token() {
        let none = HeaderMap::new();
        for local in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(status(&peer(local), &none, None).await, 200, "{local}");
        }
        for other in ["10.0.0.1", "127.0.0.6", "fe80::1"] {
            assert_eq!(status(&peer(other), &none, None).await, 403, "{other}");
        }
        assert_eq!(status(&peer("127.0.0.1"), &headers("x-forwarded-for", "10.0.0.1"), None).await, 403);
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let from_afar = peer("10.0.0.1");
        let good = headers("authorization", "Bearer s3cret");
        assert_eq!(status(&from_afar, &good, Some(&file)).await, 403, "there is no file");
        std::fs::write(&file, "s3cret\n").unwrap();
        assert_eq!(status(&from_afar, &good, Some(&file)).await, 200);
        assert_eq!(status(&from_afar, &headers("authorization", "bearer s3cret"), Some(&file)).await, 200);
        for wrong in ["Bearer s3cre", "Bearer s3crets", "Bearer ", "Basic s3cret", "s3cret", "B"] {
            assert_eq!(
                status(&from_afar, &headers("authorization", wrong), Some(&file)).await,
                401,
                "{wrong}"
            );
        }
        assert_eq!(status(&from_afar, &none, Some(&file)).await, 401);
        std::fs::write(&file, "\n").unwrap();
        assert_eq!(status(&from_afar, &headers("authorization", "Bearer "), Some(&file)).await, 401);
    }
}

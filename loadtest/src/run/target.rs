//! Addresses that a run may send to: this machine only, unless `allowRemote` permits others.

use std::net::{SocketAddr, ToSocketAddrs};

/// Reason why a target is rejected.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The text is not an address.
    #[error("target `{target}`: {reason}; expected HOST:PORT or http://HOST:PORT")]
    Unresolved {
        target: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The target is https, which is not supported.
    #[error("target `{0}`: https is not supported; give the plain port behind it")]
    Tls(String),
    /// The target is another machine.
    #[error(
        "target `{target}` is {address}, which is not this machine. Load can hurt what it is aimed at: \
         add --allow-remote (allowRemote: true) if it is yours and meant"
    )]
    Remote {
        target: String,
        /// Address that the target resolves to.
        address: SocketAddr,
    },
}

/// Resolves `HOST:PORT`, with or without `http://`, preferring IPv4.
///
/// # Errors
/// [`TargetError`]: no address, https, or not on the loopback interface without `allow_remote`.
pub(super) fn resolve(target: &str, allow_remote: bool) -> Result<SocketAddr, TargetError> {
    if target.starts_with("https://") {
        return Err(TargetError::Tls(target.to_owned()));
    }
    let host_port = target.strip_prefix("http://").unwrap_or(target).trim_end_matches('/');
    let unresolved = |reason: String| TargetError::Unresolved { target: target.to_owned(), reason };
    let mut addresses: Vec<_> =
        host_port.to_socket_addrs().map_err(|error| unresolved(error.to_string()))?.collect();
    addresses.sort_by_key(SocketAddr::is_ipv6);
    let address = *addresses.first().ok_or_else(|| unresolved("it has no address".into()))?;
    if !address.ip().is_loopback() && !allow_remote {
        return Err(TargetError::Remote { target: target.to_owned(), address });
    }
    Ok(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_taken_with_or_without_a_scheme() {
        for target in ["127.0.0.1:80", "http://127.0.0.1:80", "http://127.0.0.1:80/", "localhost:80"] {
            assert_eq!(resolve(target, false).unwrap().port(), 80, "{target}");
        }
    }

    #[test]
    fn another_machine_must_be_allowed_explicitly() {
        let message = resolve("192.0.2.1:80", false).unwrap_err().to_string();
        assert!(message.contains("--allow-remote"), "{message}");
        assert_eq!(resolve("192.0.2.1:80", true).unwrap().port(), 80);
    }

    #[test]
    fn what_is_no_address_says_what_was_expected() {
        assert!(resolve("127.0.0.1", false).unwrap_err().to_string().contains("HOST:PORT"));
        assert!(resolve("https://127.0.0.1:1", false).unwrap_err().to_string().contains("https"));
    }
}

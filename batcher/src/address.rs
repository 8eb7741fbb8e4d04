//! Addresses of model servers: `host:port`, or `unix:` and the path of a socket.

use std::path::{Path, PathBuf};

/// Prefix of an address that is the path of a Unix socket.
const UNIX: &str = "unix:";
/// Longest path of a Unix socket: the kernel's `sun_path` has 108 bytes, one of them the final zero.
const UNIX_PATH_BYTES: usize = 107;

/// Returns the path of the socket if the address is a Unix socket: `unix:/run/model.sock`, or gRPC's
/// `unix:///run/model.sock`; else `None`.
pub fn unix_path(address: &str) -> Option<PathBuf> {
    let path = address.strip_prefix(UNIX)?;
    let path = path.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(path);
    Some(PathBuf::from(path))
}

/// Checks that an address is `host:port` or `unix:` and an absolute path.
///
/// # Errors
/// Returns a message that names the fault and what is allowed.
pub fn check_address(address: &str) -> Result<(), String> {
    if let Some(path) = unix_path(address) {
        return check_unix(address, &path);
    }
    let Some((host, port)) = address.rsplit_once(':') else {
        return Err(format!("address {address:?} is not host:port or unix:/path"));
    };
    if !port.parse::<u16>().is_ok_and(|port| port > 0) {
        return Err(format!(
            "address {address:?} is not host:port or unix:/path: the port must be 1 to 65535"
        ));
    }
    let literal = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let valid = match literal {
        Some(literal) => literal.parse::<std::net::Ipv6Addr>().is_ok(),
        None => !host.is_empty() && !host.contains([':', '/', '[', ']', ' ']),
    };
    if valid {
        Ok(())
    } else {
        Err(format!("address {address:?} is not host:port or unix:/path; an IPv6 address stands in brackets"))
    }
}

fn check_unix(address: &str, path: &Path) -> Result<(), String> {
    let bytes = path.as_os_str().len();
    if !path.is_absolute() {
        return Err(format!("address {address:?}: the path of a Unix socket must begin with /"));
    }
    if bytes > UNIX_PATH_BYTES {
        return Err(format!(
            "address {address:?}: the path has {bytes} bytes, a Unix socket's has at most {UNIX_PATH_BYTES}"
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_literals_and_sockets_are_addresses() {
        for address in
            ["bert:80", "10.0.0.1:9000", "[::1]:9000", "unix:/run/model.sock", "unix:///run/model.sock"]
        {
            assert_eq!(check_address(address), Ok(()), "{address}");
        }
        assert_eq!(unix_path("unix:///run/m.sock"), unix_path("unix:/run/m.sock"));
        assert_eq!(unix_path("unix-box:80"), None);
    }

    #[test]
    fn what_is_wrong_with_an_address_is_said() {
        for (address, problem) in [
            ("nowhere", "is not host:port"),
            (":80", "is not host:port"),
            ("::1:9000", "in brackets"),
            ("[fe80]:9000", "in brackets"),
            ("bert:0", "1 to 65535"),
            ("bert:http", "1 to 65535"),
            ("unix:model.sock", "must begin with /"),
        ] {
            let error = check_address(address).unwrap_err();
            assert!(error.contains(problem), "{address}: {error}");
        }
        let long = format!("unix:/{}", "x".repeat(107));
        assert!(check_address(&long).unwrap_err().contains("at most 107"));
    }
}

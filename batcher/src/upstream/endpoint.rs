//! Endpoints of model servers: resolves addresses, opens connections, and identifies the listening process.

use std::net::SocketAddr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use http::HeaderValue;
use tokio::net::{TcpStream, UnixStream};
use tokio_util::either::Either;

use super::listener::{listener_inodes, unix_listener_inodes};
use crate::address::unix_path;

/// Byte stream of a connection.
pub type Stream = Either<TcpStream, UnixStream>;

/// An endpoint at which a model server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Endpoint {
    /// An address and a port.
    Tcp(SocketAddr),
    /// The path of a Unix socket.
    Unix(PathBuf),
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// Returns the value of `Host` (and of `:authority`) for the batcher's own requests to an address from the settings.
pub fn host_of(address: &str) -> HeaderValue {
    let localhost = HeaderValue::from_static("localhost");
    if unix_path(address).is_some() {
        return localhost;
    }
    HeaderValue::from_str(address).unwrap_or(localhost)
}

impl Endpoint {
    /// Resolves an address from the settings; uses the first address of a name.
    ///
    /// # Errors
    /// Fails if the name cannot be resolved.
    pub async fn resolve(address: &str) -> std::io::Result<Self> {
        if let Some(path) = unix_path(address) {
            return Ok(Self::Unix(path));
        }
        if let Ok(address) = address.parse() {
            return Ok(Self::Tcp(address));
        }
        let mut found = tokio::net::lookup_host(address).await?;
        found.next().map(Self::Tcp).ok_or_else(|| std::io::Error::other("no address"))
    }

    /// Connects, without Nagle's delay.
    ///
    /// # Errors
    /// Returns the system's error: refused, unreachable, …
    pub async fn connect(&self) -> std::io::Result<Stream> {
        match self {
            Self::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Either::Left(stream))
            }
            Self::Unix(path) => Ok(Either::Right(UnixStream::connect(path).await?)),
        }
    }

    /// Returns numbers that identify the listener: they change when another server listens here. Empty if no process
    /// listens, or if that cannot be seen from this machine.
    pub fn listeners(&self) -> Vec<u64> {
        match self {
            Self::Tcp(address) if address.ip().is_loopback() => listener_inodes(*address),
            Self::Tcp(_) => Vec::new(),
            Self::Unix(path) => socket_file(path),
        }
    }
}

/// Returns numbers that identify a Unix socket's file. `bind` creates the file, and a path can be bound again only
/// after the file was removed, so each listener has its own file, visible through any mount of its folder. File systems
/// reuse inodes, and their clocks tick in milliseconds, so the sockets that [`unix_listener_inodes`] finds are
/// included.
fn socket_file(path: &Path) -> Vec<u64> {
    let Ok(file) = std::fs::metadata(path) else { return Vec::new() };
    let made_ns = file.mtime().wrapping_mul(1_000_000_000).wrapping_add(file.mtime_nsec());
    let mut numbers = vec![file.dev(), file.ino(), made_ns.cast_unsigned()];
    numbers.extend(unix_listener_inodes(path));
    numbers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn addresses_of_each_kind_are_resolved_and_shown_as_they_were_set() {
        for address in ["127.0.0.1:9000", "[::1]:9000", "unix:/run/model.sock"] {
            assert_eq!(Endpoint::resolve(address).await.unwrap().to_string(), address);
        }
        assert_eq!(host_of("unix:/run/model.sock"), "localhost");
        assert_eq!(host_of("[::1]:9000"), "[::1]:9000");
    }

    #[test]
    fn a_socket_that_is_bound_again_is_another_listener() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("m.sock");
        let endpoint = Endpoint::Unix(path.clone());
        assert!(endpoint.listeners().is_empty());
        let mut seen = Vec::new();
        for _ in 0..20 {
            let _listener = std::os::unix::net::UnixListener::bind(&path).unwrap();
            let now = endpoint.listeners();
            assert_eq!(endpoint.listeners(), now, "the same one as long as nobody binds again");
            assert!(!seen.contains(&now));
            seen.push(now);
            std::fs::remove_file(&path).unwrap();
        }
    }

    #[test]
    fn servers_elsewhere_have_no_listeners_here() {
        assert!(Endpoint::Tcp("192.0.2.1:80".parse().unwrap()).listeners().is_empty());
    }
}

//! Unix sockets in the directories of the kubelet.

use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use futures::Stream;
use sluice_kubelet_api::SOCKET_PATH_LIMIT_BYTES;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// Period of checks for the file of a socket.
const LOOK: Duration = Duration::from_secs(1);

/// Reason why a socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// The path is longer than the kernel allows.
    #[error(
        "socket path {path} is {length} bytes long, a unix socket's may have {SOCKET_PATH_LIMIT_BYTES}; use a \
         shorter --kubelet-dir"
    )]
    TooLong {
        /// Path of the socket.
        path: PathBuf,
        /// Length of the path in bytes.
        length: usize,
    },
    /// The file system failed.
    #[error("socket {path}: {source}")]
    Io {
        /// Socket or its directory.
        path: PathBuf,
        /// Error of the system.
        source: io::Error,
    },
}

/// File of a bound socket. It is removed when this is dropped, unless another socket has replaced it.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode of the file.
    identity: (u64, u64),
}

impl SocketFile {
    /// Returns whether the file still exists and is this socket.
    pub(crate) fn is_there(&self) -> bool {
        identity(&self.path).is_ok_and(|there| there == self.identity)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_there() {
            // At the end of the process there is nothing to do about an error.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Binds `path`, after removing what a killed process may have left there.
///
/// # Errors
/// Fails if the path is too long or the file system fails.
pub(crate) fn bind(path: &Path) -> Result<(UnixListener, SocketFile), SocketError> {
    let length = path.as_os_str().len();
    if length > SOCKET_PATH_LIMIT_BYTES {
        return Err(SocketError::TooLong { path: path.to_owned(), length });
    }
    let failed = |source| SocketError::Io { path: path.to_owned(), source };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(path).map_err(failed)?;
    let identity = identity(path).map_err(failed)?;
    Ok((listener, SocketFile { path: path.to_owned(), identity }))
}

/// Binds `path` and accepts connections until `stop`. If the file is deleted, the socket is bound again once the file
/// `after` exists, because the kubelet must find that one when it discovers this one.
///
/// # Errors
/// Fails if the socket cannot be bound the first time.
pub(crate) fn connections(
    path: &Path,
    after: Option<PathBuf>,
    stop: CancellationToken,
) -> Result<impl Stream<Item = io::Result<UnixStream>> + use<>, SocketError> {
    let (mut listener, mut file) = bind(path)?;
    let path = path.to_owned();
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut looks = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    if sender.send(accepted.map(|(stream, _)| stream)).await.is_err() {
                        return;
                    }
                }
                _ = looks.tick() => {
                    if file.is_there() || after.as_ref().is_some_and(|after| !after.exists()) {
                        continue;
                    }
                    match bind(&path) {
                        Ok(bound) => {
                            (listener, file) = bound;
                            tracing::warn!(socket = %path.display(), "The file of a socket was deleted; bound the socket again.");
                        }
                        Err(error) => tracing::error!(%error, "The file of a socket was deleted; failed to bind the socket again."),
                    }
                }
                () = stop.cancelled() => return,
            }
        }
    });
    Ok(ReceiverStream::new(receiver))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_the_own_one_removed() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b.sock");
        let (listener, file) = bind(&path).unwrap();
        std::mem::forget(file);
        drop(listener);
        assert!(path.exists(), "a killed process leaves its socket");
        let (_listener, file) = bind(&path).unwrap();
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_path_that_no_socket_can_have_is_refused_with_the_setting_to_change() {
        let path = PathBuf::from(format!("/tmp/{}/dra.sock", "x".repeat(120)));
        let error = bind(&path).unwrap_err().to_string();
        assert!(error.contains("--kubelet-dir") && error.contains("107"), "{error}");
    }
}

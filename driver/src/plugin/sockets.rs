//! Unix sockets in the kubelet's folders.

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

/// How often a socket's file is looked for.
const LOOK: Duration = Duration::from_secs(1);

/// Why a socket cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Longer than the kernel takes.
    #[error(
        "socket path {path} is {length} bytes long, a unix socket's may have {SOCKET_PATH_LIMIT_BYTES}; use a \
         shorter --kubelet-dir"
    )]
    TooLong {
        /// The path.
        path: PathBuf,
        /// Its length in bytes.
        length: usize,
    },
    /// The file system refused.
    #[error("socket {path}: {source}")]
    Io {
        /// The socket or its folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A bound socket; its file is removed when this is dropped, unless it is another one by then.
#[derive(Debug)]
pub(crate) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    /// Whether the file is still there.
    pub(crate) fn is_there(&self) -> bool {
        identity(&self.path).is_ok_and(|there| there == self.identity)
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if self.is_there() {
            // At the end of the process there is nobody to tell.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Binds `path`, after removing what a killed process has left there.
///
/// # Errors
/// When the path is too long or the file system refuses.
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

/// Binds `path` and takes connections until `stop`. When the file is deleted, the socket is bound anew, once
/// `after` is there: the kubelet must find the one when it learns of the other.
///
/// # Errors
/// When the socket cannot be bound at first.
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
                            tracing::warn!(socket = %path.display(), "A socket was deleted and is bound again.");
                        }
                        Err(error) => tracing::error!(%error, "A socket was deleted and cannot be bound."),
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

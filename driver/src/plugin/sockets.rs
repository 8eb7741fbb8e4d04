//! Unix sockets in the kubelet's folders.

use std::io;
use std::path::{Path, PathBuf};

use sluice_kubelet_api::SOCKET_PATH_LIMIT_BYTES;
use tokio::net::UnixListener;

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

/// A bound socket; its file is removed when this is dropped.
#[derive(Debug)]
pub struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // At the end of the process there is nobody to tell.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Binds `path`, after removing what a killed process has left there.
///
/// # Errors
/// When the path is too long or the file system refuses.
pub fn bind(path: &Path) -> Result<(UnixListener, SocketFile), SocketError> {
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
    Ok((listener, SocketFile(path.to_owned())))
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

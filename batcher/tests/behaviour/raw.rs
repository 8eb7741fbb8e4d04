//! A client that writes raw bytes instead of requests.

use std::net::SocketAddr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::start::PATIENCE;

pub struct Raw(pub TcpStream);

impl Raw {
    pub async fn connect(address: SocketAddr) -> Self {
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// Writes; that the other side has closed already is no error here.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        let _ = self.0.write_all(bytes.as_ref()).await;
    }

    /// Everything until the other side closes. A reset ends it like an end.
    pub async fn read_to_end(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        let reading = async {
            let mut piece = vec![0; 16 << 10];
            while let Ok(read @ 1..) = self.0.read(&mut piece).await {
                all.extend_from_slice(&piece[..read]);
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("the connection is closed");
        all
    }

    /// Reads until these bytes have come.
    pub async fn read_until(&mut self, wanted: &str) -> String {
        let mut all = Vec::new();
        let reading = async {
            let mut piece = vec![0; 16 << 10];
            while !String::from_utf8_lossy(&all).contains(wanted) {
                let read = self.0.read(&mut piece).await.unwrap_or(0);
                assert!(read > 0, "closed before {wanted:?}: {}", String::from_utf8_lossy(&all));
                all.extend_from_slice(&piece[..read]);
            }
        };
        tokio::time::timeout(PATIENCE, reading).await.expect("it comes");
        String::from_utf8_lossy(&all).into_owned()
    }

    /// Resets the connection instead of ending it.
    pub fn reset(self) {
        self.0.set_zero_linger().unwrap();
        drop(self.0);
    }
}

/// What comes back for these bytes, until the connection is closed.
pub async fn exchange(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut raw = Raw::connect(address).await;
    raw.write(bytes).await;
    String::from_utf8_lossy(&raw.read_to_end().await).into_owned()
}

/// The status of the first answer in there.
pub fn status(answer: &str) -> u16 {
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)?.parse().ok());
    status.unwrap_or_else(|| panic!("no answer: {answer:?}"))
}

/// A V2 JSON request for one row, as it goes over the wire.
pub fn infer_bytes(model: &str, id: i64, more_headers: &str) -> String {
    let body = crate::client::json_body(&[id]);
    format!(
        "POST /v2/models/{model}/infer HTTP/1.1\r\nhost: test\r\n{more_headers}content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

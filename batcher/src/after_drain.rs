//! The hook that is called at the end of a drain, when the model server has answered all its requests. It stands in for
//! the container's own preStop hook, whose place the drain takes.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::address::check_address;

/// Maximum bytes that are read of the hook's response; the kubelet has the same limit for its hooks.
const MOST_BODY_BYTES: usize = 10 << 10;

/// An HTTP request to make after a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hook {
    address: String,
    path: String,
    headers: HeaderMap,
}

impl Hook {
    /// Creates a hook from `http://HOST:PORT/PATH` and headers of the form `name: value`.
    ///
    /// # Errors
    /// Returns a message that names the fault and what is allowed; it never contains a header's value.
    pub fn new(url: &str, headers: &[String]) -> Result<Self, String> {
        let form = || format!("{url:?} is not http://HOST:PORT/PATH");
        let rest = url.strip_prefix("http://").ok_or_else(form)?;
        let (address, path) = rest.split_at(rest.find('/').ok_or_else(form)?);
        check_address(address).map_err(|_| form())?;
        http::uri::PathAndQuery::try_from(path).map_err(|_| form())?;
        let mut map = HeaderMap::new();
        for header in headers {
            let (name, value) = header.split_once(':').ok_or("a header is not `name: value`")?;
            let parsed = HeaderName::try_from(name.trim())
                .map_err(|_| format!("{:?} is not a valid header name", name.trim()))?;
            let value = HeaderValue::try_from(value.trim())
                .map_err(|_| format!("the value of {name:?} must be visible ASCII characters and spaces"))?;
            map.append(parsed, value);
        }
        if !map.contains_key(header::HOST) {
            map.insert(header::HOST, HeaderValue::try_from(address).map_err(|_| form())?);
        }
        Ok(Self { address: address.to_owned(), path: path.to_owned(), headers: map })
    }

    /// Calls the hook and waits for the whole response, at most `patience`.
    ///
    /// # Errors
    /// Returns a message that says why there was no response.
    pub async fn call(&self, patience: Duration) -> Result<StatusCode, String> {
        tokio::time::timeout(patience, self.exchange())
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {patience:?}")))
    }

    async fn exchange(&self) -> Result<StatusCode, String> {
        let stream = TcpStream::connect(&self.address).await.map_err(|error| error.to_string())?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        let asked = async move {
            let mut request = Request::new(Empty::<Bytes>::new());
            *request.uri_mut() = self.path.parse().map_err(|_| "the path is not valid".to_owned())?;
            *request.headers_mut() = self.headers.clone();
            let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
            let status = response.status();
            // A server that this call stops may stop in the middle of its response.
            let _ = Limited::new(response.into_body(), MOST_BODY_BYTES).collect().await;
            Ok(status)
        };
        let (answer, _) = tokio::join!(asked, connection);
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_hook_is_refused_in_words() {
        Hook::new("http://127.0.0.1:9000/stop?now=1", &["x-token: a:b".to_owned()]).unwrap();
        for url in ["127.0.0.1:9000/stop", "https://127.0.0.1:9000/", "http://127.0.0.1/", "http://h:9000"] {
            assert!(Hook::new(url, &[]).unwrap_err().contains("is not http://HOST:PORT/PATH"), "{url}");
        }
        let error = Hook::new("http://127.0.0.1:9000/", &["secret".to_owned()]).unwrap_err();
        assert_eq!(error, "a header is not `name: value`");
    }
}

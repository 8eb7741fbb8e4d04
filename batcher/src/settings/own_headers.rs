//! Headers that the batcher sends with its own requests to model servers, such as an access token.

use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue, header};
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Headers that are written for each request, or that HTTP/2 and gRPC set themselves.
const OURS: [HeaderName; 12] = [
    header::HOST,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::TRANSFER_ENCODING,
    header::CONNECTION,
    header::TE,
    header::EXPECT,
    header::TRAILER,
    header::UPGRADE,
    HeaderName::from_static("http2-settings"),
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

/// Checked when they are read; their values are shown nowhere.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct OwnHeaders(HeaderMap);

impl OwnHeaders {
    /// The headers, marked as secrets.
    pub fn map(&self) -> &HeaderMap {
        &self.0
    }

    /// Checks names and values.
    ///
    /// # Errors
    /// Which header is wrong, and what is allowed; never its value.
    pub fn new(headers: BTreeMap<String, String>) -> Result<Self, String> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let parsed = header_name(&name)?;
            let mut value = HeaderValue::try_from(value)
                .map_err(|_| format!("the value of {name:?} must be visible ASCII characters and spaces"))?;
            value.set_sensitive(true);
            map.insert(parsed, value);
        }
        Ok(Self(map))
    }
}

/// The name of a header that may be set.
///
/// # Errors
/// It is no name, or the batcher sets that header itself.
pub(super) fn header_name(name: &str) -> Result<HeaderName, String> {
    let parsed = HeaderName::try_from(name).map_err(|_| format!("{name:?} is no valid name of a header"))?;
    if OURS.contains(&parsed) || parsed.as_str().starts_with("grpc-") {
        return Err(format!("{name:?} is set by the batcher itself"));
    }
    Ok(parsed)
}

impl std::fmt::Debug for OwnHeaders {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Serialize for OwnHeaders {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(
            self.0.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap_or_default())),
        )
    }
}

impl<'de> Deserialize<'de> for OwnHeaders {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(BTreeMap::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(name: &str, value: &str) -> Result<OwnHeaders, String> {
        OwnHeaders::new(BTreeMap::from([(name.to_owned(), value.to_owned())]))
    }

    #[test]
    fn headers_are_checked_and_their_values_shown_nowhere() {
        let headers = one("triton-grpc-protocol-token", "s3cret").unwrap();
        assert_eq!(headers.map()["triton-grpc-protocol-token"], "s3cret");
        assert!(!format!("{headers:?} {:?}", headers.map()).contains("s3cret"));
        assert!(one("Content-Length", "1").unwrap_err().contains("by the batcher itself"));
        assert!(one("a b", "1").unwrap_err().contains("\"a b\" is no valid name"));
        let error = one("token", "s3\ncret").unwrap_err();
        assert!(error.contains("token") && !error.contains("cret\""), "{error}");
    }
}

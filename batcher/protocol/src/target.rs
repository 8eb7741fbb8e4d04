//! Model and version of a request: read from a URL path and written as one.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The model that a request addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Model name, percent-decoded.
    pub model: String,
    /// Explicit version; `None` where the server chooses, which is not the same as any explicit version.
    pub version: Option<String>,
}

impl Target {
    /// Reads `/v2/models/{model}[/versions/{version}]/infer`; the query must have been removed. `None` where the path is not
    /// that of an inference, or not valid UTF-8 once decoded.
    pub fn from_path(path: &str) -> Option<Self> {
        let rest = path.strip_prefix("/v2/models/")?.strip_suffix("/infer")?;
        let mut segments = rest.split('/');
        let model = decode(segments.next()?)?;
        let version = match (segments.next(), segments.next()) {
            (None, _) => None,
            (Some("versions"), Some(version)) => Some(decode(version)?),
            _ => return None,
        };
        segments.next().is_none().then_some(Self { model, version })
    }

    /// Returns the path of an inference on this target, percent-encoded where needed.
    pub fn infer_path(&self) -> String {
        let mut path = String::with_capacity(32 + self.model.len());
        path.push_str("/v2/models/");
        encode(&self.model, &mut path);
        if let Some(version) = &self.version {
            path.push_str("/versions/");
            encode(version, &mut path);
        }
        path.push_str("/infer");
        path
    }
}

/// What the path of a REST request addresses.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Address {
    /// Model, and version where the path has one.
    pub target: Target,
    /// Label of a version, which only V1 paths may have.
    pub label: Option<String>,
}

impl From<Target> for Address {
    fn from(target: Target) -> Self {
        Self { target, label: None }
    }
}

/// Verbs of V1, which stand behind the model's name.
const V1_VERBS: [&str; 4] = [":predict", ":classify", ":regress", ":explain"];

/// Returns the model in a path of V1 or V2, whatever the request is for; `None` where the path names no model.
pub fn model_in_path(path: &str) -> Option<String> {
    // Triton's statistics of all models.
    if path == "/v2/models/stats" {
        return None;
    }
    let rest = path.strip_prefix("/v2/models/").or_else(|| path.strip_prefix("/v1/models/"))?;
    let segment = rest.split('/').next()?;
    let verb = V1_VERBS.iter().find_map(|verb| segment.strip_suffix(verb));
    decode(verb.filter(|_| path.starts_with("/v1/")).unwrap_or(segment))
}

/// Percent-decodes one path segment; `None` where it is empty, has an invalid escape, or is not UTF-8.
pub(crate) fn decode(segment: &str) -> Option<String> {
    if segment.is_empty() {
        return None;
    }
    if !segment.contains('%') {
        return Some(segment.to_owned());
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes().iter();
    while let Some(&byte) = rest.next() {
        if byte == b'%' {
            let high = char::from(*rest.next()?).to_digit(16)?;
            let low = char::from(*rest.next()?).to_digit(16)?;
            bytes.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

/// Characters that are escaped in a path segment: all but RFC 3986's unreserved characters.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Appends a path segment, percent-encoded.
pub(crate) fn encode(text: &str, path: &mut String) {
    path.extend(utf8_percent_encode(text, ESCAPED));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_of_a_path_is_found_whatever_is_asked_of_it() {
        for (path, model) in [
            ("/v2/models/m", Some("m")),
            ("/v2/models/m/versions/3/config", Some("m")),
            ("/v2/models/a%2Fb/stats", Some("a/b")),
            ("/v2/models/m:predict", Some("m:predict")),
            ("/v1/models/m:explain", Some("m")),
            ("/v1/models/m/versions/1:predict", Some("m")),
            ("/v1/models/llama:8b", Some("llama:8b")),
            ("/v2/models/stats", None),
            ("/v2/models/", None),
            ("/v2/models", None),
            ("/v1/models", None),
            ("/v2/repository/models/m/load", None),
            ("/v2/models/%zz", None),
        ] {
            assert_eq!(model_in_path(path).as_deref(), model, "{path}");
        }
    }

    #[test]
    fn infer_paths_are_read_with_and_without_a_version() {
        let plain = Target::from_path("/v2/models/bert/infer").unwrap();
        assert_eq!((plain.model.as_str(), plain.version.as_deref()), ("bert", None));
        let versioned = Target::from_path("/v2/models/a%20b/versions/3/infer").unwrap();
        assert_eq!((versioned.model.as_str(), versioned.version.as_deref()), ("a b", Some("3")));
        assert_eq!(versioned.infer_path(), "/v2/models/a%20b/versions/3/infer");
    }

    #[test]
    fn other_paths_are_left_to_pass_through() {
        for path in [
            "/v2/models/bert",
            "/v2/models/bert/ready",
            "/v2/models//infer",
            "/v2/models/a/b/infer",
            "/v2/models/a/versions/1/x/infer",
            "/v2/models/a%2/infer",
            "/v2/models/a%FF/infer",
            "/v1/models/a:predict",
        ] {
            assert_eq!(Target::from_path(path), None, "{path}");
        }
    }
}

//! Reads and writes the paths of V1.

use crate::target::{decode, encode};
use crate::{Address, Target};

/// Reads `/v1/models/{model}[/versions/{version}|/labels/{label}]:predict`; the query must have been removed. `None` where
/// the path is not that of a prediction.
pub(super) fn read(path: &str) -> Option<Address> {
    let rest = path.strip_prefix("/v1/models/")?.strip_suffix(":predict")?;
    let mut segments = rest.split('/');
    let model = decode(segments.next()?)?;
    let (version, label) = match (segments.next(), segments.next()) {
        (None, _) => (None, None),
        (Some("versions"), Some(version)) => (Some(decode(version)?), None),
        (Some("labels"), Some(label)) => (None, Some(decode(label)?)),
        _ => return None,
    };
    segments.next().is_none().then_some(Address { target: Target { model, version }, label })
}

/// Returns the path of a prediction, percent-encoded where needed.
pub(super) fn write(Address { target, label }: &Address) -> String {
    let mut path = String::with_capacity(32 + target.model.len());
    path.push_str("/v1/models/");
    encode(&target.model, &mut path);
    for (kind, name) in [("/versions/", target.version.as_deref()), ("/labels/", label.as_deref())] {
        if let Some(name) = name {
            path.push_str(kind);
            encode(name, &mut path);
        }
    }
    path.push_str(":predict");
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn predict_paths_are_read_and_written() {
        for (path, version, label) in [
            ("/v1/models/a%20b:predict", None, None),
            ("/v1/models/a%20b/versions/3:predict", Some("3"), None),
            ("/v1/models/a%20b/labels/canary:predict", None, Some("canary")),
        ] {
            let address = read(path).unwrap();
            assert_eq!(
                (address.target.model.as_str(), address.target.version.as_deref(), address.label.as_deref()),
                ("a b", version, label)
            );
            assert_eq!(write(&address), path);
        }
        for other in [
            "/v1/models/m:classify",
            "/v1/models/m:explain",
            "/v1/models/m",
            "/v1/models/:predict",
            "/v1/models/m/x:predict",
            "/v1/models/m/versions/1/x:predict",
            "/v2/models/m:predict",
        ] {
            assert_eq!(read(other), None, "{other}");
        }
    }
}

//! Headers that all requests of a batch have in common, and that go to the model server with it.

use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Values of the headers that `sharedHeaders` names. Requests share a batch only where they are equal: whoever may
/// see a model by their credentials must not ride on somebody else's.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scope(Arc<[(HeaderName, HeaderValue)]>);

impl Scope {
    /// Of a request; `None` where it has none of these headers.
    pub fn of(headers: &HeaderMap, names: &[String]) -> Option<Self> {
        let mut found: Vec<(HeaderName, HeaderValue)> = Vec::new();
        for name in names {
            // Validated as a name; several values keep their order.
            let Ok(known) = HeaderName::try_from(name) else { continue };
            found.extend(headers.get_all(&known).iter().map(|value| (known.clone(), value.clone())));
        }
        (!found.is_empty()).then(|| Self(found.into()))
    }

    /// Puts them to a batch's own headers.
    pub fn add_to(&self, headers: &mut HeaderMap) {
        for (name, value) in self.0.iter() {
            headers.append(name, value.clone());
        }
    }

    /// Puts those that are not there to a request's headers.
    pub fn add_missing_to(&self, headers: &mut HeaderMap) {
        let is_missing = |name: &HeaderName| !headers.contains_key(name);
        let missing: Vec<_> = self.0.iter().filter(|(name, _)| is_missing(name)).cloned().collect();
        for (name, value) in missing {
            headers.append(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_of_one_scope_only_with_equal_values_of_the_named_headers() {
        let headers = |token: &'static str, other: &'static str| {
            HeaderMap::from_iter([
                (HeaderName::from_static("authorization"), HeaderValue::from_static(token)),
                (HeaderName::from_static("x-other"), HeaderValue::from_static(other)),
            ])
        };
        let names = ["authorization".to_owned(), "x-absent".to_owned()];
        let of = |headers: HeaderMap| Scope::of(&headers, &names);
        assert_eq!(of(headers("a", "1")), of(headers("a", "2")));
        assert_ne!(of(headers("a", "1")), of(headers("b", "1")));
        assert_eq!(of(HeaderMap::new()), None);
        let mut batch = HeaderMap::new();
        of(headers("a", "1")).unwrap().add_to(&mut batch);
        assert_eq!(batch.len(), 1);
        assert_eq!(batch["authorization"], "a");
    }
}

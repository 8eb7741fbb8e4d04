//! `matchAttribute` and `distinctAttribute`: what devices of a claim must have in common, or must not.
use k8s_openapi::api::resource::v1::{DeviceAttribute, DeviceConstraint};

use super::Reason;
use super::pool::Candidate;
use super::request::Alternative;

/// A constraint of a claim.
pub(super) struct Rule<'a> {
    requests: &'a [String],
    attribute: &'a str,
    kind: Kind,
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Match,
    Distinct,
}

/// Values of the devices that were chosen so far under one rule.
#[derive(Default)]
pub(super) struct Values<'a>(Vec<&'a DeviceAttribute>);

impl<'a> Rule<'a> {
    pub(super) fn read(constraint: &'a DeviceConstraint) -> Result<Self, Reason> {
        let requests = constraint.requests.as_deref().unwrap_or_default();
        let rule = |attribute: &'a String, kind| Self { requests, attribute, kind };
        let matches = constraint.match_attribute.as_ref().map(|attribute| rule(attribute, Kind::Match));
        let distinct =
            constraint.distinct_attribute.as_ref().map(|attribute| rule(attribute, Kind::Distinct));
        matches.or(distinct).ok_or_else(|| Reason::UnknownKind { what: "a constraint".to_owned() })
    }

    /// Adds a device for a request. Returns `false`, and adds nothing, where the rule does not allow it.
    pub(super) fn add(
        &self,
        values: &mut Values<'a>,
        request: &Alternative<'_>,
        candidate: &Candidate<'a>,
    ) -> bool {
        if !self.concerns(request) {
            return true;
        }
        let Some(value) = self.value(candidate) else { return false };
        let is_allowed = match self.kind {
            Kind::Match => values.0.first().is_none_or(|first| equal(value, first)),
            Kind::Distinct => {
                values.0.is_empty() || (has_value(value) && !values.0.iter().any(|other| equal(value, other)))
            }
        };
        if is_allowed {
            values.0.push(value);
        }
        is_allowed
    }

    /// Undoes the newest [`add`](Self::add).
    pub(super) fn remove(&self, values: &mut Values<'a>, request: &Alternative<'_>) {
        if self.concerns(request) {
            values.0.pop();
        }
    }

    fn concerns(&self, request: &Alternative<'_>) -> bool {
        self.requests.is_empty() || request.is_named_in(self.requests)
    }

    /// Returns the device's value: by the attribute's full name, or by its id where the domain is the driver's.
    fn value(&self, candidate: &Candidate<'a>) -> Option<&'a DeviceAttribute> {
        let attributes = candidate.device.attributes.as_ref()?;
        attributes.get(self.attribute).or_else(|| {
            let (domain, id) = self.attribute.split_once('/')?;
            attributes.get(id).filter(|_| domain == candidate.id.0)
        })
    }
}

fn has_value(value: &DeviceAttribute) -> bool {
    value.string.is_some() || value.int.is_some() || value.bool.is_some() || value.version.is_some()
}

/// Returns whether two values are equal. Values of different types, and those of an unknown type, are not.
fn equal(one: &DeviceAttribute, other: &DeviceAttribute) -> bool {
    if one.string.is_some() {
        one.string == other.string
    } else if one.int.is_some() {
        one.int == other.int
    } else if one.bool.is_some() {
        one.bool == other.bool
    } else {
        one.version.is_some() && one.version == other.version
    }
}

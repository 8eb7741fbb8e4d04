//! Requests of a pod's claims, checked and compiled.
use k8s_openapi::api::resource::v1::{
    CapacityRequirements, DeviceClass, DeviceSelector, DeviceToleration, ResourceClaim,
};
use std::collections::BTreeMap;

use super::constraint::Rule;
use super::{Aborted, Features, Reason};
use crate::ledger;
use crate::quantity;
use crate::selector::Selector;

/// Maximum number of devices in one claim (`resource.k8s.io/v1`, `AllocationResultsMaxSize`).
pub(super) const DEVICES_PER_CLAIM: usize = 32;

/// One claim.
pub(super) struct Claim<'a> {
    pub(super) name: String,
    pub(super) requests: Vec<Request<'a>>,
    pub(super) rules: Vec<Rule<'a>>,
}

/// One request of a claim: the first of its alternatives that fits is taken.
pub(super) struct Request<'a> {
    pub(super) alternatives: Vec<Alternative<'a>>,
    /// Whether it is a list of subrequests (`firstAvailable`); else it has one alternative.
    pub(super) is_list: bool,
}

/// A request without subrequests, or one subrequest.
pub(super) struct Alternative<'a> {
    /// `request`, or `request/subrequest`.
    pub(super) name: String,
    /// Name of the request, without that of the subrequest.
    pub(super) request: &'a str,
    /// Selectors of the class, then those of the request.
    pub(super) selectors: Vec<Selector>,
    pub(super) tolerations: &'a [DeviceToleration],
    pub(super) count: Count,
    /// Least amount of each capacity that is asked for, in nano-units.
    pub(super) capacity: BTreeMap<&'a str, i128>,
    pub(super) admin_access: bool,
}

/// Number of devices that are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Count {
    Exactly(usize),
    /// Every device of the node that matches, at least one.
    All,
}

/// Fields that requests and subrequests have in common.
struct Wanted<'a> {
    class: &'a str,
    selectors: Option<&'a [DeviceSelector]>,
    tolerations: Option<&'a [DeviceToleration]>,
    mode: Option<&'a str>,
    count: Option<i64>,
    capacity: Option<&'a CapacityRequirements>,
    admin_access: Option<bool>,
}

impl<'a> Claim<'a> {
    /// Reads a claim as the API server stores it. Fields that are left out have the API's defaults.
    pub(super) fn read(
        features: Features,
        classes: &'a [DeviceClass],
        claim: &'a ResourceClaim,
    ) -> Result<Self, Aborted> {
        let name = ledger::name(claim);
        let aborted = |reason| Aborted { at: name.clone(), reason };
        let devices = claim.spec.devices.as_ref();
        let mut requests = Vec::new();
        for request in devices.iter().flat_map(|devices| devices.requests.iter().flatten()) {
            let read = |wanted: Wanted<'a>, name: String| {
                Alternative::read(features, classes, &request.name, name, &wanted)
            };
            let list = request.first_available.as_deref().unwrap_or_default();
            let alternatives = match (&request.exactly, list) {
                (Some(exactly), []) => vec![
                    read(
                        Wanted {
                            class: &exactly.device_class_name,
                            selectors: exactly.selectors.as_deref(),
                            tolerations: exactly.tolerations.as_deref(),
                            mode: exactly.allocation_mode.as_deref(),
                            count: exactly.count,
                            capacity: exactly.capacity.as_ref(),
                            admin_access: exactly.admin_access,
                        },
                        request.name.clone(),
                    )
                    .map_err(aborted)?,
                ],
                (_, [_, ..]) if !features.prioritized_list => {
                    return Err(aborted(Reason::NotInRelease {
                        request: request.name.clone(),
                        feature: "firstAvailable",
                    }));
                }
                (_, [_, ..]) => {
                    let read = list.iter().map(|sub| {
                        read(
                            Wanted {
                                class: &sub.device_class_name,
                                selectors: sub.selectors.as_deref(),
                                tolerations: sub.tolerations.as_deref(),
                                mode: sub.allocation_mode.as_deref(),
                                count: sub.count,
                                capacity: sub.capacity.as_ref(),
                                admin_access: None,
                            },
                            format!("{}/{}", request.name, sub.name),
                        )
                    });
                    read.collect::<Result<_, _>>().map_err(aborted)?
                }
                (None, []) => {
                    return Err(aborted(Reason::UnknownKind { what: format!("request {}", request.name) }));
                }
            };
            requests.push(Request { alternatives, is_list: !list.is_empty() });
        }
        let rules = devices.iter().flat_map(|devices| devices.constraints.iter().flatten()).map(Rule::read);
        Ok(Self { rules: rules.collect::<Result<_, _>>().map_err(aborted)?, name, requests })
    }
}

impl<'a> Alternative<'a> {
    fn read(
        features: Features,
        classes: &'a [DeviceClass],
        request: &'a str,
        name: String,
        wanted: &Wanted<'a>,
    ) -> Result<Self, Reason> {
        if wanted.capacity.is_some() && !features.consumable_capacity {
            return Err(Reason::NotInRelease { request: name, feature: "capacity" });
        }
        if wanted.admin_access.is_some() && !features.admin_access {
            return Err(Reason::NotInRelease { request: name, feature: "adminAccess" });
        }
        let class = classes.iter().find(|class| class.metadata.name.as_deref() == Some(wanted.class));
        let class = class
            .ok_or_else(|| Reason::UnknownClass { request: name.clone(), class: wanted.class.to_owned() })?;
        let compile = |place: String, selectors: Option<&[DeviceSelector]>| {
            let expressions = selectors
                .unwrap_or_default()
                .iter()
                .map(|selector| selector.cel.as_ref().map(|cel| &cel.expression));
            let compiled = expressions.map(|expression| match expression {
                Some(expression) => Selector::compile(&place, expression)
                    .map_err(|error| Reason::Selector { message: error.to_string() }),
                None => Err(Reason::UnknownKind { what: format!("a selector of {place}") }),
            });
            compiled.collect::<Result<Vec<_>, _>>()
        };
        let mut selectors =
            compile(format!("DeviceClass {}", wanted.class), class.spec.selectors.as_deref())?;
        selectors.extend(compile(format!("request {name}"), wanted.selectors)?);
        let invalid =
            |field: &str, value| Reason::Invalid { what: format!("{field} of request {name}"), value };
        let count = match wanted.mode {
            None | Some("ExactCount") => match usize::try_from(wanted.count.unwrap_or(1)) {
                Ok(count) => Count::Exactly(count),
                Err(_) => return Err(invalid("count", format!("{:?}", wanted.count))),
            },
            Some("All") => Count::All,
            Some(mode) => return Err(invalid("allocationMode", mode.to_owned())),
        };
        let mut capacity = BTreeMap::new();
        for (of, amount) in wanted.capacity.iter().flat_map(|capacity| capacity.requests.iter().flatten()) {
            let nano = quantity::nano(&amount.0).ok_or_else(|| invalid("capacity", amount.0.clone()))?;
            capacity.insert(of.as_str(), nano);
        }
        Ok(Self {
            name,
            request,
            selectors,
            tolerations: wanted.tolerations.unwrap_or_default(),
            count,
            capacity,
            admin_access: wanted.admin_access == Some(true),
        })
    }

    /// Returns whether the list of names of a constraint names this request or subrequest.
    pub(super) fn is_named_in(&self, names: &[String]) -> bool {
        names.iter().any(|name| *name == self.name || name == self.request)
    }
}

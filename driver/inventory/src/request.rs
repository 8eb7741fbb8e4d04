//! Requests of a claim, checked and compiled. A feature that this crate does not evaluate is an error.
use k8s_openapi::api::resource::v1::{
    DeviceAttribute, DeviceClass, DeviceRequest, DeviceSelector, DeviceToleration, ExactDeviceRequest,
    ResourceClaim,
};

use crate::cluster::Cluster;
use crate::error::AllocationError;
use crate::pools::PoolDevice;
use crate::selector::{Selector, qualified};
use crate::taints;

/// Maximum devices of one claim (resource.k8s.io/v1).
const RESULTS_PER_CLAIM: usize = 32;

/// Request of a claim.
pub(crate) struct Request<'a> {
    pub(crate) name: String,
    pub(crate) class: &'a DeviceClass,
    /// Selectors of the class, then those of the request.
    pub(crate) selectors: Vec<Selector>,
    pub(crate) tolerations: Vec<DeviceToleration>,
    pub(crate) count: usize,
}

/// Constraint `matchAttribute`: all devices of the named requests have the same value of an attribute. With no
/// request named, it concerns all requests.
pub(crate) struct Match {
    requests: Vec<String>,
    attribute: String,
}

impl Match {
    pub(crate) fn concerns(&self, request: &str) -> bool {
        self.requests.is_empty() || self.requests.iter().any(|r| r == request)
    }

    /// Returns the device's value of the attribute. A device without the attribute never meets the constraint.
    pub(crate) fn value<'d>(&self, device: &PoolDevice<'d>, driver: &str) -> Option<&'d DeviceAttribute> {
        let wanted = qualified(&self.attribute, "");
        let attributes = device.object.attributes.as_ref()?;
        attributes.iter().find(|(name, _)| qualified(name, driver) == wanted).map(|(_, value)| value)
    }
}

impl<'a> Request<'a> {
    /// Creates a request for one device of a class.
    pub(crate) fn one(cluster: &'a Cluster, class: &str) -> Result<Self, AllocationError> {
        let request =
            ExactDeviceRequest { device_class_name: class.to_owned(), ..ExactDeviceRequest::default() };
        Self::exactly(cluster, "device", &request)
    }

    fn exactly(
        cluster: &'a Cluster,
        name: &str,
        request: &ExactDeviceRequest,
    ) -> Result<Self, AllocationError> {
        let unsupported =
            |what, instead| Err(AllocationError::Unsupported { request: name.to_owned(), what, instead });
        if request.admin_access == Some(true) {
            return unsupported("adminAccess", "ask without it");
        }
        if request.capacity.is_some() {
            return unsupported("capacity requests", "select by attribute or by DeviceClass instead");
        }
        match request.allocation_mode.as_deref() {
            None | Some("" | "ExactCount") => {}
            Some("All") => {
                return unsupported("allocationMode All", "use ExactCount with a count");
            }
            Some(_) => return unsupported("an unknown allocationMode", "use ExactCount with a count"),
        }
        let class_name = &request.device_class_name;
        let class =
            cluster.device_classes.iter().find(|c| c.metadata.name.as_ref() == Some(class_name)).ok_or_else(
                || AllocationError::UnknownClass { request: name.to_owned(), class: class_name.clone() },
            )?;
        let mut selectors = compile(&format!("DeviceClass {class_name}"), class.spec.selectors.as_deref())?;
        selectors.extend(compile(&format!("request {name}"), request.selectors.as_deref())?);
        let count = request.count.filter(|count| *count != 0).unwrap_or(1);
        match usize::try_from(count) {
            Ok(count) if count <= RESULTS_PER_CLAIM => Ok(Self {
                name: name.to_owned(),
                class,
                selectors,
                tolerations: request.tolerations.clone().unwrap_or_default(),
                count,
            }),
            _ => unsupported("a count outside 1..32", "ask for at most 32 devices in one claim"),
        }
    }

    /// Returns whether every taint of the device is tolerated. Taints of effect `None` need no toleration.
    pub(crate) fn tolerates(&self, device: &PoolDevice<'_>) -> bool {
        let mut hard = device.object.taints.iter().flatten().filter(|taint| taint.effect != "None");
        hard.all(|taint| self.tolerations.iter().any(|toleration| taints::is_tolerated(taint, toleration)))
    }
}

/// Compiles the requests and constraints of a claim.
pub(crate) fn of_claim<'a>(
    cluster: &'a Cluster,
    claim: &ResourceClaim,
) -> Result<(Vec<Request<'a>>, Vec<Match>), AllocationError> {
    let devices = claim.spec.devices.as_ref();
    let requests: Vec<&DeviceRequest> = devices.iter().flat_map(|d| d.requests.iter().flatten()).collect();
    let mut compiled = Vec::new();
    for request in requests {
        let Some(exactly) = &request.exactly else {
            return Err(AllocationError::Unsupported {
                request: request.name.clone(),
                what: "firstAvailable",
                instead: "ask for one kind of device with `exactly`",
            });
        };
        compiled.push(Request::exactly(cluster, &request.name, exactly)?);
    }
    let all = || "(all)".to_owned();
    if compiled.iter().map(|r| r.count).sum::<usize>() > RESULTS_PER_CLAIM {
        return Err(AllocationError::Unsupported {
            request: all(),
            what: "more than 32 devices",
            instead: "ask for at most 32 devices in one claim",
        });
    }
    let mut matches = Vec::new();
    for constraint in devices.iter().flat_map(|d| d.constraints.iter().flatten()) {
        let requests = constraint.requests.clone().unwrap_or_default();
        let Some(attribute) = &constraint.match_attribute else {
            return Err(AllocationError::Unsupported {
                request: requests.first().cloned().unwrap_or_else(all),
                what: "a constraint other than matchAttribute",
                instead: "use matchAttribute",
            });
        };
        matches.push(Match { requests, attribute: attribute.clone() });
    }
    Ok((compiled, matches))
}

fn compile(place: &str, selectors: Option<&[DeviceSelector]>) -> Result<Vec<Selector>, AllocationError> {
    let expressions = selectors.into_iter().flatten().filter_map(|s| s.cel.as_ref());
    expressions.map(|cel| Selector::compile(place, &cel.expression)).collect()
}

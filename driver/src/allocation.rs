//! Devices that must be prepared for a claim, from its allocation. Pure.

use k8s_openapi::api::resource::v1::{DeviceAllocationConfiguration, ResourceClaim};
use sluice_config::names::devices as names;
use sluice_inventory::{DeviceIndex, DeviceKind, Gpu};

use crate::checkpoint::{DeviceRecord, Instance, SliceRecord};
use crate::device_config::{ConfigError, DeviceConfig};
use crate::monitoring;
use crate::sharing::SharingStrategy;

/// Devices of this node by name.
#[derive(Debug, Clone)]
pub(crate) struct NodeDevices {
    /// Name of this driver.
    pub driver: String,
    /// Pool of this node's devices.
    pub pool: String,
    /// GPUs of this node.
    pub gpus: Vec<Gpu>,
    /// Devices that the GPUs publish.
    pub index: DeviceIndex,
}

/// Reason why a claim cannot be prepared on this node, whatever the state of its GPUs.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClaimAllocationError {
    /// Another claim object has the name now.
    #[error("the claim of that name has uid {found:?} now, not {asked}; it was deleted and made again")]
    OtherClaim {
        /// UID that the kubelet asked for.
        asked: String,
        /// UID of the object.
        found: Option<String>,
    },
    /// The claim has no allocation.
    #[error("the claim is not allocated; a scheduler must fill status.allocation first")]
    NotAllocated,
    /// The allocation has no device of this driver.
    #[error("the claim's allocation has no device of driver {driver}")]
    NotOurs {
        /// Name of this driver.
        driver: String,
    },
    /// The device belongs to another node.
    #[error("device {device} was allocated from pool {pool:?}, this node's is {ours:?}")]
    OtherPool {
        /// Name of the device.
        device: String,
        /// Pool of the device.
        pool: String,
        /// Pool of this node.
        ours: String,
    },
    /// This node does not publish the device.
    #[error("device {device} is not published by this node{why}; the allocation is out of date")]
    Unknown {
        /// Name of the device.
        device: String,
        /// Empty, or what has changed.
        why: &'static str,
    },
    /// A monitoring device is requested without admin access.
    #[error("device {device} is for watching the GPU: request {request} must set adminAccess: true")]
    AdminOnly {
        /// Name of the device.
        device: String,
        /// Name of the request.
        request: String,
    },
    /// A configuration is invalid.
    #[error("configuration for driver {driver} from {source_of_it}: {error}")]
    Config {
        /// Name of this driver.
        driver: String,
        /// Object that has the configuration.
        source_of_it: &'static str,
        /// Invalid field.
        error: ConfigError,
    },
}

/// Requests that a configuration concerns (empty: all requests of the claim), and the configuration.
type RequestConfig<'c> = (&'c [String], DeviceConfig);

impl NodeDevices {
    /// Returns the devices of a claim that this driver prepares, as records without MIG instances.
    ///
    /// Results of other drivers are ignored.
    ///
    /// # Errors
    /// Returns a [`ClaimAllocationError`] for the author of the claim.
    pub(crate) fn devices_for(
        &self,
        claim: &ResourceClaim,
        uid: &str,
    ) -> Result<Vec<DeviceRecord>, ClaimAllocationError> {
        if claim.metadata.uid.as_deref() != Some(uid) {
            return Err(ClaimAllocationError::OtherClaim {
                asked: uid.to_owned(),
                found: claim.metadata.uid.clone(),
            });
        }
        let allocation = claim.status.as_ref().and_then(|status| status.allocation.as_ref());
        let devices =
            allocation.and_then(|a| a.devices.as_ref()).ok_or(ClaimAllocationError::NotAllocated)?;
        let mut configs = Vec::new();
        for config in devices.config.iter().flatten() {
            configs.extend(self.config(config)?);
        }
        let mut wanted = Vec::new();
        for result in devices.results.iter().flatten().filter(|result| result.driver == self.driver) {
            if result.pool != self.pool {
                return Err(ClaimAllocationError::OtherPool {
                    device: result.device.clone(),
                    pool: result.pool.clone(),
                    ours: self.pool.clone(),
                });
            }
            wanted.push(match result.admin_access {
                Some(true) => self.watching(&result.device, &result.request)?,
                _ => self.record(&result.device, &result.request, sharing(&configs, &result.request))?,
            });
        }
        match wanted.is_empty() {
            true => Err(ClaimAllocationError::NotOurs { driver: self.driver.clone() }),
            false => Ok(wanted),
        }
    }

    /// Returns whether this device of the node is allocated to the claim now.
    pub(crate) fn is_allocated(&self, claim: &ResourceClaim, device: &str) -> bool {
        let allocation = claim.status.as_ref().and_then(|status| status.allocation.as_ref());
        let results = allocation.and_then(|a| a.devices.as_ref()?.results.as_ref()).into_iter().flatten();
        let mut ours = results.filter(|result| result.driver == self.driver && result.pool == self.pool);
        ours.any(|result| result.device == device)
    }

    /// Parses one configuration of the claim; `None` if it is for another driver.
    fn config<'c>(
        &self,
        config: &'c DeviceAllocationConfiguration,
    ) -> Result<Option<RequestConfig<'c>>, ClaimAllocationError> {
        let Some(opaque) = config.opaque.as_ref().filter(|opaque| opaque.driver == self.driver) else {
            return Ok(None);
        };
        let parsed =
            DeviceConfig::parse(&opaque.parameters.0).map_err(|error| ClaimAllocationError::Config {
                driver: self.driver.clone(),
                source_of_it: if config.source == "FromClass" { "the DeviceClass" } else { "the claim" },
                error,
            })?;
        Ok(Some((config.requests.as_deref().unwrap_or_default(), parsed)))
    }

    /// Returns the record of a device of a request with `adminAccess`. It monitors the whole GPU, whichever device of
    /// it was allocated.
    fn watching(&self, device: &str, request: &str) -> Result<DeviceRecord, ClaimAllocationError> {
        let minor = self.index.get(device).map(|entry| entry.gpu_minor);
        let is_it = |gpu: &&Gpu| Some(gpu.minor) == minor || monitoring::device(gpu.minor) == device;
        let unknown =
            || ClaimAllocationError::Unknown { device: device.to_owned(), why: self.mode_change(device) };
        let gpu = self.gpus.iter().find(is_it).ok_or_else(unknown)?;
        Ok(DeviceRecord {
            requests: vec![main_request(request)],
            device: device.to_owned(),
            gpu_uuid: String::new(),
            gpu_minor: gpu.minor,
            profile: monitoring::TYPE_MONITOR.to_owned(),
            watches: Some(gpu.uuid.clone()),
            sharing: SharingStrategy::default(),
            slice: None,
        })
    }

    /// Returns the end of an error's sentence if the GPU had the device before its MIG mode was switched, else an
    /// empty text.
    fn mode_change(&self, device: &str) -> &'static str {
        let is_of = |gpu: &&Gpu| {
            let full = names::full_device(gpu.minor);
            device
                .strip_prefix(full.as_str())
                .is_some_and(|rest| rest.is_empty() || rest.starts_with("-mig-"))
        };
        match self.gpus.iter().find(is_of) {
            Some(gpu) if gpu.mig_enabled && !device.contains("-mig-") => ", since MIG mode is on",
            Some(gpu) if !gpu.mig_enabled && device.contains("-mig-") => ", since MIG mode is off",
            _ => "",
        }
    }

    fn record(
        &self,
        device: &str,
        request: &str,
        sharing: SharingStrategy,
    ) -> Result<DeviceRecord, ClaimAllocationError> {
        let unknown =
            || ClaimAllocationError::Unknown { device: device.to_owned(), why: self.mode_change(device) };
        if self.gpus.iter().any(|gpu| monitoring::device(gpu.minor) == device) {
            let (device, request) = (device.to_owned(), request.to_owned());
            return Err(ClaimAllocationError::AdminOnly { device, request });
        }
        let entry = self.index.get(device).ok_or_else(unknown)?;
        let gpu = self.gpus.iter().find(|gpu| gpu.minor == entry.gpu_minor).ok_or_else(unknown)?;
        Ok(DeviceRecord {
            requests: vec![main_request(request)],
            device: device.to_owned(),
            gpu_uuid: gpu.uuid.clone(),
            gpu_minor: gpu.minor,
            profile: entry.profile().to_owned(),
            watches: None,
            sharing,
            slice: match entry.kind {
                DeviceKind::Full => None,
                DeviceKind::Mig { profile_id, placement, .. } => {
                    Some(SliceRecord { profile_id, placement, instance: Instance::Absent })
                }
            },
        })
    }
}

/// Returns how the device of a request is shared. The last configuration that concerns the request decides, since
/// those of the claim follow those of its DeviceClass.
fn sharing(configs: &[RequestConfig<'_>], request: &str) -> SharingStrategy {
    let main = main_request(request);
    let concerns =
        |requests: &[String]| requests.is_empty() || requests.iter().any(|r| r == request || *r == main);
    let config = configs.iter().rev().find(|(requests, _)| concerns(requests));
    config.map(|(_, config)| config.sharing).unwrap_or_default()
}

/// Returns `main` of "main/alternative", because containers name the request and not the chosen alternative.
fn main_request(request: &str) -> String {
    request.split('/').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use serde_json::json;

    pub(crate) fn node() -> NodeDevices {
        let gpus = vec![crate::gpus::fake::gpu()];
        let index = DeviceIndex::new(&gpus);
        NodeDevices { driver: "gpu.sluice.dev".to_owned(), pool: "n/gpu".to_owned(), gpus, index }
    }

    /// Claim `default/<uid>` with one result.
    pub(crate) fn claim(uid: &str, driver: &str, pool: &str, device: &str) -> ResourceClaim {
        serde_json::from_value(json!({
            "metadata": {"name": uid, "namespace": "default", "uid": uid},
            "spec": {"devices": {"requests": [{"name": "gpu"}]}},
            "status": {"allocation": {"devices": {"results": [
                {"request": "gpu/large", "driver": driver, "pool": pool, "device": device},
            ]}}},
        }))
        .unwrap()
    }

    #[test]
    fn a_result_becomes_a_placement_to_create() {
        let claim = claim("1", "gpu.sluice.dev", "n/gpu", "gpu-0-mig-2g-10gb-4");
        let wanted = node().devices_for(&claim, "1").unwrap();
        assert_eq!(wanted[0].requests, ["gpu"]);
        let slice = wanted[0].slice.as_ref().unwrap();
        assert_eq!((slice.profile_id, slice.placement.start, slice.placement.size), (14, 4, 2));
    }

    #[test]
    fn a_claim_that_is_not_for_this_node_or_not_as_asked_is_refused_with_the_reason() {
        let refused = |driver: &str, pool: &str, device: &str, uid: &str| {
            node().devices_for(&claim("1", driver, pool, device), uid).unwrap_err()
        };
        let device = "gpu-0-mig-2g-10gb-4";
        assert!(matches!(refused("x.dev", "n/gpu", device, "1"), ClaimAllocationError::NotOurs { .. }));
        assert!(matches!(
            refused("gpu.sluice.dev", "m/gpu", device, "1"),
            ClaimAllocationError::OtherPool { .. }
        ));
        assert!(matches!(
            refused("gpu.sluice.dev", "n/gpu", "gpu-9", "1"),
            ClaimAllocationError::Unknown { .. }
        ));
        assert!(matches!(
            refused("gpu.sluice.dev", "n/gpu", device, "2"),
            ClaimAllocationError::OtherClaim { .. }
        ));
    }

    #[test]
    fn an_unallocated_claim_is_refused() {
        let mut claim = claim("1", "gpu.sluice.dev", "n/gpu", "gpu-0-mig-2g-10gb-4");
        claim.status = None;
        assert_eq!(node().devices_for(&claim, "1"), Err(ClaimAllocationError::NotAllocated));
    }

    #[test]
    fn of_several_drivers_results_only_the_own_ones_are_prepared() {
        let mut claim = claim("1", "gpu.sluice.dev", "n/gpu", "gpu-0-mig-2g-10gb-4");
        let allocation = claim.status.as_mut().unwrap().allocation.as_mut().unwrap();
        let results = allocation.devices.as_mut().unwrap().results.as_mut().unwrap();
        let mut nic = results[0].clone();
        (nic.driver, nic.pool, nic.device) = ("nic.example".to_owned(), "n".to_owned(), "nic-0".to_owned());
        results.insert(0, nic);
        let wanted = node().devices_for(&claim, "1").unwrap();
        let devices: Vec<_> = wanted.iter().map(|record| record.device.as_str()).collect();
        assert_eq!(devices, ["gpu-0-mig-2g-10gb-4"]);
    }

    #[test]
    fn a_configuration_is_checked_whoever_gave_it_and_another_drivers_is_not() {
        let with = |source: &str, driver: &str, strategy: &str| {
            let mut claim = claim("1", "gpu.sluice.dev", "n/gpu", "gpu-0-mig-2g-10gb-4");
            let allocation = claim.status.as_mut().unwrap().allocation.as_mut().unwrap();
            allocation.devices.as_mut().unwrap().config = serde_json::from_value(json!([
                {"source": source, "opaque": {"driver": driver, "parameters": {
                    "apiVersion": "gpu.sluice.dev/v1alpha1", "kind": "DeviceConfig",
                    "sharing": {"strategy": strategy},
                }}},
            ]))
            .unwrap();
            node().devices_for(&claim, "1").map_err(|error| error.to_string())
        };
        assert!(with("FromClaim", "gpu.sluice.dev", "Exclusive").is_ok());
        assert!(with("FromClaim", "other.example", "TimeSlicing").is_ok());
        let error = with("FromClaim", "gpu.sluice.dev", "TimeSlicing").unwrap_err();
        assert!(error.contains("from the claim: sharing.strategy is \"TimeSlicing\""), "{error}");
        let error = with("FromClass", "gpu.sluice.dev", "MPS").unwrap_err();
        assert!(error.contains("from the DeviceClass: sharing.strategy is \"MPS\""), "{error}");
    }
}

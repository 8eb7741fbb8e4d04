//! Devices and capacity that allocated claims hold.
use k8s_openapi::api::resource::v1::ResourceClaim;
use std::collections::{BTreeMap, HashMap};

use super::{Chosen, DeviceId, Features};
use crate::quantity;

/// Devices that are held, and how much is consumed of those that are shared.
#[derive(Debug, Clone, Default)]
pub struct Held<'a> {
    devices: HashMap<DeviceId<'a>, Holding<'a>>,
}

/// How a device is held.
#[derive(Debug, Clone, Default)]
pub(super) struct Holding<'a> {
    /// Whether one claim holds it alone.
    pub(super) is_exclusive: bool,
    /// Whether claims that share it hold it.
    pub(super) is_shared: bool,
    /// Capacity that these claims consume, in nano-units.
    pub(super) consumed: BTreeMap<&'a str, i128>,
}

impl<'a> Held<'a> {
    /// Gathers what claims hold. Claims without an allocation and admin access hold nothing.
    pub fn of(features: Features, claims: &'a [ResourceClaim]) -> Self {
        let mut held = Self::default();
        let allocations = claims.iter().filter_map(|claim| claim.status.as_ref()?.allocation.as_ref());
        let results =
            allocations.filter_map(|allocation| allocation.devices.as_ref()?.results.as_ref()).flatten();
        for result in results.filter(|result| result.admin_access != Some(true)) {
            let holding = held.devices.entry((&result.driver, &result.pool, &result.device)).or_default();
            if !features.consumable_capacity || result.share_id.is_none() {
                holding.is_exclusive = true;
                continue;
            }
            holding.is_shared = true;
            for (name, amount) in result.consumed_capacity.iter().flatten() {
                *holding.consumed.entry(name).or_default() += quantity::nano(&amount.0).unwrap_or(0);
            }
        }
        held
    }

    /// Adds the devices that a pod would hold.
    pub fn add(&mut self, devices: &[Chosen<'a>]) {
        for chosen in devices.iter().filter(|chosen| !chosen.admin_access) {
            let holding = self.devices.entry(chosen.device).or_default();
            match &chosen.share {
                None => holding.is_exclusive = true,
                Some(share) => {
                    holding.is_shared = true;
                    for (name, amount) in share {
                        *holding.consumed.entry(name).or_default() += amount;
                    }
                }
            }
        }
    }

    pub(super) fn holding(&self, device: DeviceId<'a>) -> Option<&Holding<'a>> {
        self.devices.get(&device)
    }
}

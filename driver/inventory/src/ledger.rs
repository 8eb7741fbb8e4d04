//! Ledger of free and used devices: which devices are taken and how much of each counter is left. Taking and giving
//! back are exact inverses.
use k8s_openapi::api::resource::v1::ResourceClaim;
use std::collections::BTreeMap;

use crate::pools::Pool;
use crate::reader::Reader;

/// Position of a device: index of its pool, and index in the pool.
pub(crate) type DevicePosition = (usize, usize);

/// Device that is taken.
#[derive(Debug, Clone)]
pub(crate) struct Hold {
    pub(crate) at: DevicePosition,
    /// Claim that holds the device; `None` for a hypothetical claim while free devices are counted.
    pub(crate) holder: Option<String>,
}

/// State that an allocation changes.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    /// Amount left of each counter, by pool, in nano-units. It is negative only where the cluster itself
    /// over-committed.
    available: Vec<Vec<i128>>,
    taken: Vec<Vec<bool>>,
    /// Pools of which claims hold more of a counter than there is. The scheduler takes no device there that draws on
    /// counters, whichever they are.
    over_committed: Vec<bool>,
    pub(crate) holds: Vec<Hold>,
}

impl Ledger {
    /// Creates the ledger from the totals of the pools and the claims that are allocated. Also returns problems that
    /// were found, as sentences for `reader`.
    ///
    /// It counts as the scheduler does: every claim with an allocation, of any driver, even if it is not reserved or
    /// is being deleted. Admin access takes nothing, a shared device is charged once, and a device that is no longer
    /// published is not charged.
    pub(crate) fn new(
        pools: &[Pool<'_>],
        claims: &[ResourceClaim],
        reader: Reader<'_>,
    ) -> (Self, Vec<String>) {
        let mut ledger = Self {
            available: pools.iter().map(|p| p.counters.iter().map(|c| c.total).collect()).collect(),
            taken: pools.iter().map(|p| vec![false; p.devices.len()]).collect(),
            over_committed: Vec::with_capacity(pools.len()),
            holds: Vec::new(),
        };
        let mut index: BTreeMap<(&str, &str, &str), DevicePosition> = BTreeMap::new();
        for (p, pool) in pools.iter().enumerate() {
            for (s, device) in pool.devices.iter().enumerate() {
                index.insert((pool.driver, pool.name, &device.object.name), (p, s));
            }
        }
        let complete = |driver: &str, name: &str| {
            pools.iter().any(|p| p.driver == driver && p.name == name && p.unusable.is_none())
        };
        let mut problems = Vec::new();
        for claim in claims {
            let allocation = claim.status.as_ref().and_then(|s| s.allocation.as_ref());
            let results = allocation.and_then(|a| a.devices.as_ref()).and_then(|d| d.results.as_ref());
            for result in results.into_iter().flatten().filter(|r| r.admin_access != Some(true)) {
                match index.get(&(result.driver.as_str(), result.pool.as_str(), result.device.as_str())) {
                    Some(&at) if result.share_id.is_some() && ledger.is_taken(at) => {
                        ledger.holds.push(Hold { at, holder: Some(name(claim)) });
                    }
                    Some(&at) => ledger.charge(pools, at, Some(name(claim))),
                    None if complete(&result.driver, &result.pool) => problems.push(format!(
                        "{} holds device {} of pool {}, which is not published any more; the scheduler does not count it",
                        reader.name(&name(claim)), result.device, result.pool
                    )),
                    None => {}
                }
            }
        }
        for (pool, left) in pools.iter().zip(&ledger.available) {
            ledger.over_committed.push(left.iter().any(|left| *left < 0));
            if ledger.over_committed.last() == Some(&true) {
                problems.push(format!(
                    "claims hold more of pool {} than it has; the scheduler places nothing there that shares counters",
                    pool.name
                ));
            }
        }
        (ledger, problems)
    }

    pub(crate) fn is_taken(&self, (pool, device): DevicePosition) -> bool {
        self.taken[pool][device]
    }

    /// Returns the amount left of a counter, in nano-units.
    pub(crate) fn available(&self, pool: usize, counter: usize) -> i128 {
        self.available[pool][counter]
    }

    /// Returns whether the device is free and every counter that it consumes has enough left.
    pub(crate) fn fits(&self, pools: &[Pool<'_>], at: DevicePosition) -> bool {
        let (pool, device) = at;
        let draws = &pools[pool].devices[device].draws;
        !self.is_taken(at)
            && (draws.is_empty() || !self.over_committed[pool])
            && draws.iter().all(|&(counter, amount)| self.available[pool][counter] >= amount)
    }

    /// Takes the device if it fits, and returns whether it did.
    pub(crate) fn take(&mut self, pools: &[Pool<'_>], at: DevicePosition, holder: Option<&str>) -> bool {
        let fits = self.fits(pools, at);
        if fits {
            self.charge(pools, at, holder.map(str::to_owned));
        }
        fits
    }

    /// Undoes the newest [`take`](Self::take).
    pub(crate) fn undo(&mut self, pools: &[Pool<'_>]) {
        if let Some(Hold { at: (pool, device), .. }) = self.holds.pop() {
            self.taken[pool][device] = false;
            for &(counter, amount) in &pools[pool].devices[device].draws {
                self.available[pool][counter] += amount;
            }
        }
    }

    fn charge(&mut self, pools: &[Pool<'_>], at: DevicePosition, holder: Option<String>) {
        let (pool, device) = at;
        self.taken[pool][device] = true;
        for &(counter, amount) in &pools[pool].devices[device].draws {
            self.available[pool][counter] -= amount;
        }
        self.holds.push(Hold { at, holder });
    }
}

/// Returns `namespace/name` of a claim.
pub(crate) fn name(claim: &ResourceClaim) -> String {
    let part = |part: &Option<String>| part.clone().unwrap_or_default();
    format!("{}/{}", part(&claim.metadata.namespace), part(&claim.metadata.name))
}

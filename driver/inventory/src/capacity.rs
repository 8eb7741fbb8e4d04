//! Capacity table for people: by pool and profile, what is free, what is in use, and by whom.
use serde::Serialize;

use crate::cluster::Cluster;
use crate::pools::Pool;
use crate::view::{View, profile};

/// Capacity of one pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolCapacity {
    /// Name of the DRA driver.
    pub driver: String,
    /// Name of the pool.
    pub pool: String,
    /// Node of the pool; `None` for pools of several nodes.
    pub node: Option<String>,
    /// Newest generation, which is the one that counts.
    pub generation: i64,
    /// Reason why nothing can be allocated from the pool now; `None` if it is usable.
    pub unusable: Option<String>,
    /// Capacity by profile, in published order.
    pub profiles: Vec<ProfileCapacity>,
}

/// Capacity of one profile in one pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileCapacity {
    /// Profile name such as `2g.20gb` or `full`; the name of the device where the driver has no profiles.
    pub profile: String,
    /// Number of further claims of the profile that would be placed if no others came. Profiles share a GPU, so these
    /// numbers do not add up.
    pub free: u32,
    /// Number of allocated devices of the profile.
    pub in_use: u32,
    /// Claims that hold these devices.
    pub holders: Vec<Holder>,
}

/// Claim and the device that it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// Namespace and name of the claim: `namespace/name`.
    pub claim: String,
    /// Name of the device.
    pub device: String,
}

/// Returns the capacity of every pool, by driver and pool name.
pub fn capacity_table(cluster: &Cluster) -> Vec<PoolCapacity> {
    let (view, ledger) = View::new(cluster);
    let pools = view.pools.iter().enumerate();
    pools
        .map(|(p, pool)| {
            let unusable = view.unusable(pool);
            // Profiles in published order, each with its devices.
            let mut groups: Vec<(String, Vec<usize>)> = Vec::new();
            for device in 0..pool.devices.len() {
                let profile = profile_or_name(pool, device);
                match groups.iter_mut().find(|(name, _)| *name == profile) {
                    Some((_, devices)) => devices.push(device),
                    None => groups.push((profile, vec![device])),
                }
            }
            let free = |devices: &[usize]| -> u32 {
                let mut trial = ledger.clone();
                let allowed = |device: &&usize| unusable.is_none() && selectable(pool, **device);
                let placed =
                    devices.iter().filter(allowed).filter(|s| trial.take(&view.pools, (p, **s), None));
                u32::try_from(placed.count()).unwrap_or(u32::MAX)
            };
            let profiles = groups.iter().map(|(profile, devices)| {
                let holders: Vec<_> = ledger
                    .holds
                    .iter()
                    .filter(|hold| hold.at.0 == p && devices.contains(&hold.at.1))
                    .map(|hold| Holder {
                        claim: hold.holder.clone().unwrap_or_default(),
                        device: pool.devices[hold.at.1].object.name.clone(),
                    })
                    .collect();
                let in_use = devices.iter().filter(|device| ledger.is_taken((p, **device))).count();
                ProfileCapacity {
                    profile: profile.clone(),
                    free: free(devices),
                    in_use: u32::try_from(in_use).unwrap_or(u32::MAX),
                    holders,
                }
            });
            PoolCapacity {
                driver: pool.driver.to_owned(),
                pool: pool.name.to_owned(),
                node: pool.node().map(str::to_owned),
                generation: pool.generation,
                profiles: profiles.collect(),
                unusable,
            }
        })
        .collect()
}

/// Returns whether a request without tolerations may get the device.
fn selectable(pool: &Pool<'_>, device: usize) -> bool {
    let device = pool.devices[device].object;
    let tainted = device.taints.iter().flatten().any(|taint| taint.effect != "None");
    !tainted && device.allow_multiple_allocations != Some(true)
}

fn profile_or_name(pool: &Pool<'_>, device: usize) -> String {
    profile(pool, device).unwrap_or(&pool.devices[device].object.name).to_owned()
}

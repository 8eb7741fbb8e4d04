//! The table that a person reads: per pool and profile, what is free, what is in use, by whom.
use serde::Serialize;

use crate::cluster::Cluster;
use crate::pools::Pool;
use crate::view::{View, profile};

/// One pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct PoolCapacity {
    /// DRA driver.
    pub driver: String,
    /// Pool name.
    pub pool: String,
    /// Its node; `None` for pools that are not of one node.
    pub node: Option<String>,
    /// Generation that counts.
    pub generation: i64,
    /// Why nothing can be allocated from it now; `None` when it can.
    pub unusable: Option<String>,
    /// By profile, in published order.
    pub profiles: Vec<ProfileCapacity>,
}

/// One profile in one pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ProfileCapacity {
    /// `2g.20gb`, `full`; the device's name where the driver has no profiles.
    pub profile: String,
    /// More claims of it that would be placed if nothing else came. Profiles share the same GPU, so
    /// these numbers do not add up.
    pub free: u32,
    /// Devices of it that are allocated.
    pub in_use: u32,
    /// Who holds them.
    pub holders: Vec<Holder>,
}

/// A claim and the device that it holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Holder {
    /// `namespace/name`.
    pub claim: String,
    /// Device name.
    pub device: String,
}

/// Capacity of every pool, by driver and pool name.
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

/// Whether a request without tolerations may get the device.
fn selectable(pool: &Pool<'_>, device: usize) -> bool {
    let device = pool.devices[device].object;
    let tainted = device.taints.iter().flatten().any(|taint| taint.effect != "None");
    !tainted && device.allow_multiple_allocations != Some(true)
}

fn profile_or_name(pool: &Pool<'_>, device: usize) -> String {
    profile(pool, device).unwrap_or(&pool.devices[device].object.name).to_owned()
}

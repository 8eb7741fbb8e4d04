//! Free slices: how many more claims of a class would be placed, and what prevents the next one.
use crate::cluster::Cluster;
use crate::error::AllocationError;
use crate::ledger::Ledger;
use crate::reason;
use crate::request::Request;
use crate::view::{Eligible, View};

/// Claims that are expected and hold nothing yet: replicas without an allocation, lifts in flight. They are placed
/// first, so that the same slice is not promised twice.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promised {
    /// DeviceClass of the claims.
    pub device_class: String,
    /// Number of claims, each of one device.
    pub claims: u32,
    /// Owner of the claims, such as `default/bert`, for the reason text.
    pub holder: String,
}

/// Result of [`free_slices`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FreeSlices {
    /// DeviceClass that was asked about.
    pub device_class: String,
    /// Profile that the class selects, such as `2g.10gb`, or the name of the class where its devices have several.
    pub profile: String,
    /// Number of claims that would be placed one after another, after the promised ones.
    pub free: u32,
    /// Number of promised claims, of any class, that would not be placed.
    pub promised_unplaced: u32,
    /// What prevents one more claim: profile, pools, and who holds what.
    pub reason: String,
    /// Pools that are not counted and selectors that failed, as sentences. Empty if there are none.
    pub problems: Vec<String>,
}

/// Counts how many claims of one device of `device_class` would be placed one after another by first fit, after those
/// in `promised`. It stops at `limit`.
///
/// # Errors
/// Fails if the class does not exist or its selectors do not compile.
pub fn free_slices(
    cluster: &Cluster,
    device_class: &str,
    promised: &[Promised],
    limit: u32,
) -> Result<FreeSlices, AllocationError> {
    count(cluster, device_class, promised, limit, None)
}

/// Does the same with texts for the users of `namespace`: holders in other namespaces are counted and not named.
///
/// # Errors
/// Fails as [`free_slices`] does.
pub fn free_slices_seen_from(
    namespace: &str,
    cluster: &Cluster,
    device_class: &str,
    promised: &[Promised],
    limit: u32,
) -> Result<FreeSlices, AllocationError> {
    count(cluster, device_class, promised, limit, Some(namespace))
}

fn count(
    cluster: &Cluster,
    device_class: &str,
    promised: &[Promised],
    limit: u32,
    seen_from: Option<&str>,
) -> Result<FreeSlices, AllocationError> {
    let request = Request::one(cluster, device_class)?;
    let (mut view, mut ledger) = View::seen_from(cluster, seen_from);
    let eligible = view.eligible(&request);
    let mut promised_unplaced = 0;
    let mut unknown = Vec::new();
    for promise in promised {
        let placed = match Request::one(cluster, &promise.device_class) {
            Ok(request) => {
                let eligible = view.eligible(&request);
                let holder = format!("{} (promised)", promise.holder);
                place(&view, &mut ledger, &eligible, promise.claims, Some(&holder)).iter().sum()
            }
            Err(refusal) => {
                unknown.push(match view.reader.may_know(&promise.holder) {
                    true => format!("promised to {}: {refusal}", promise.holder),
                    // What the other namespace claims is not for this reader either.
                    false => "what is promised to another namespace cannot be counted".to_owned(),
                });
                0
            }
        };
        promised_unplaced += promise.claims - placed;
    }
    let placed = place(&view, &mut ledger, &eligible, limit, None);
    let profile = reason::profile_of(&view, &eligible).unwrap_or(device_class).to_owned();
    let reason = reason::blockers(&view, &ledger, &eligible, &profile, &placed);
    let mut problems = view.problems;
    unknown.dedup();
    problems.extend(unknown);
    Ok(FreeSlices {
        device_class: device_class.to_owned(),
        profile,
        free: placed.iter().sum(),
        promised_unplaced,
        reason,
        problems,
    })
}

/// Places up to `limit` claims of one device each, and returns how many went into each pool.
///
/// One pass gives the same result as one search per claim: counters only fall, so a device that did not fit before
/// another was taken does not fit afterwards either.
fn place(
    view: &View<'_>,
    ledger: &mut Ledger,
    eligible: &Eligible,
    limit: u32,
    holder: Option<&str>,
) -> Vec<u32> {
    let mut placed = vec![0; view.pools.len()];
    let mut left = limit;
    for node in &view.nodes {
        for at in view.order(node.as_deref()) {
            if left == 0 {
                return placed;
            }
            if eligible.is(at) && ledger.take(&view.pools, at, holder) {
                placed[at.0] += 1;
                left -= 1;
            }
        }
    }
    placed
}

//! How long slices have been held: the driver's slice-seconds.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checkpoint, Phase};

/// Use of one profile's slices.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Usage {
    /// Slices that are handed out now.
    pub in_use: u64,
    /// Seconds from the start of prepare to the end of unprepare, summed over slices; for those still
    /// held, until now.
    pub slice_seconds: f64,
}

impl Checkpoint {
    /// Use by profile at `now_ms` (milliseconds of the Unix clock), of every profile ever held.
    ///
    /// Start times are kept in the checkpoint, so the sum goes on over a restart where it was.
    ///
    /// Devices in `gone` (UID of the claim, name) do not exist any more, so nobody uses them.
    pub(crate) fn usage(&self, now_ms: u64, gone: &BTreeSet<(String, String)>) -> BTreeMap<String, Usage> {
        let mut ms = self.ended_slice_ms.clone();
        let mut in_use: BTreeMap<&str, u64> = BTreeMap::new();
        for (uid, record) in &self.claims {
            for device in record.devices.iter().filter(|device| device.watches.is_none()) {
                *ms.entry(device.profile.clone()).or_default() += now_ms.saturating_sub(record.started_at_ms);
                let is_gone = gone.contains(&(uid.clone(), device.device.clone()));
                if record.phase != Phase::Preparing && !is_gone {
                    *in_use.entry(&device.profile).or_default() += 1;
                }
            }
        }
        ms.into_iter()
            .map(|(profile, ms)| {
                let in_use = in_use.get(profile.as_str()).copied().unwrap_or(0);
                (profile, Usage { in_use, slice_seconds: ms as f64 / 1000.0 })
            })
            .collect()
    }
}

//! Slice-seconds of the driver: how long slices have been held.

use std::collections::{BTreeMap, BTreeSet};

use super::{Checkpoint, Phase};

/// Use of the slices of one profile.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Usage {
    /// Number of slices that are in use now.
    pub in_use: u64,
    /// Seconds from the start of prepare to the end of unprepare, summed over slices. Slices that are still held
    /// count until now.
    pub slice_seconds: f64,
}

impl Checkpoint {
    /// Returns the use of every profile that was ever held, at `now_ms` (milliseconds of the Unix clock).
    ///
    /// Start times are in the checkpoint, so the sums continue after a restart.
    ///
    /// Devices in `gone` (UID of the claim, name) do not exist any more, so they are not in use.
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

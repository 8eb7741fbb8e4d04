//! Feature classes: which states are made for each.
use rand::Rng;
use rand::rngs::SmallRng;

use crate::{claims, cluster};
use sluice_inventory_oracle::state::State;

/// Feature of claims or slices that is compared by itself, mostly beside partitioned GPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Core,
    SeveralDevices,
    AllDevices,
    FirstAvailable,
    Selectors,
    FailingSelectors,
    MatchAttribute,
    DistinctAttribute,
    AdminAccess,
    Taints,
    Shares,
    SharesOfPartitions,
    CapacityRequests,
    BindingConditions,
    BrokenPools,
    Placement,
    SeveralClaims,
    OverCommitted,
    Everything,
}

/// Composition of random states. Chances are from 0 to 1.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Mix {
    /// Chance that GPUs are partitioned, with counters; else devices are whole.
    pub(crate) partitions: f64,
    /// Chance that a device is held already.
    pub(crate) held: f64,
    /// Whether held devices may draw more of a counter than there is.
    pub(crate) over_commit: bool,
    pub(crate) taints: f64,
    pub(crate) tolerations: f64,
    pub(crate) shareable: f64,
    pub(crate) capacity_policies: f64,
    pub(crate) binding: f64,
    /// Chance that a pool is incomplete, stale or contradicts itself.
    pub(crate) broken: f64,
    /// Chance of pools that are for nodes by label, for all nodes, or leave that to their devices.
    pub(crate) placed: f64,
    /// Maximum numbers: `claims` of a pod, `requests` of a claim, and `count` of devices of a request.
    pub(crate) claims: u32,
    pub(crate) requests: u32,
    pub(crate) count: i64,
    pub(crate) all: f64,
    pub(crate) lists: f64,
    pub(crate) selectors: f64,
    /// Whether selectors may fail on a device.
    pub(crate) failing: bool,
    pub(crate) matches: f64,
    pub(crate) distinct: f64,
    pub(crate) admin: f64,
    pub(crate) capacity: f64,
}

impl Class {
    pub(crate) const ALL: [Self; 19] = [
        Self::Core,
        Self::SeveralDevices,
        Self::AllDevices,
        Self::FirstAvailable,
        Self::Selectors,
        Self::FailingSelectors,
        Self::MatchAttribute,
        Self::DistinctAttribute,
        Self::AdminAccess,
        Self::Taints,
        Self::Shares,
        Self::SharesOfPartitions,
        Self::CapacityRequests,
        Self::BindingConditions,
        Self::BrokenPools,
        Self::Placement,
        Self::SeveralClaims,
        Self::OverCommitted,
        Self::Everything,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Core => "core",
            Self::SeveralDevices => "several-devices",
            Self::AllDevices => "all-devices",
            Self::FirstAvailable => "first-available",
            Self::Selectors => "selectors",
            Self::FailingSelectors => "failing-selectors",
            Self::MatchAttribute => "match-attribute",
            Self::DistinctAttribute => "distinct-attribute",
            Self::AdminAccess => "admin-access",
            Self::Taints => "taints",
            Self::Shares => "shares",
            Self::SharesOfPartitions => "shares-of-partitions",
            Self::CapacityRequests => "capacity-requests",
            Self::BindingConditions => "binding-conditions",
            Self::BrokenPools => "broken-pools",
            Self::Placement => "placement",
            Self::SeveralClaims => "several-claims",
            Self::OverCommitted => "over-committed",
            Self::Everything => "everything",
        }
    }

    /// Returns whether the autoscaler's count, of claims that name only a class, must equal the scheduler's. Else it
    /// may be lower: devices that several claims share, nodes by label and pools that change are not counted.
    pub(crate) fn counts_are_exact(self) -> bool {
        !matches!(
            self,
            Self::Shares | Self::SharesOfPartitions | Self::BrokenPools | Self::Placement | Self::Everything
        )
    }

    fn mix(self) -> Mix {
        let core = Mix { partitions: 0.8, held: 0.4, claims: 1, requests: 1, count: 1, ..Mix::default() };
        match self {
            Self::Core => core,
            Self::SeveralDevices => Mix { held: 0.2, requests: 3, count: 3, ..core },
            Self::AllDevices => Mix { held: 0.03, requests: 2, all: 0.8, partitions: 0.1, ..core },
            Self::FirstAvailable => {
                Mix { requests: 2, count: 2, lists: 0.9, taints: 0.2, tolerations: 0.5, ..core }
            }
            Self::Selectors => Mix { selectors: 0.8, ..core },
            Self::FailingSelectors => Mix { selectors: 0.8, failing: true, ..core },
            Self::MatchAttribute => Mix { held: 0.15, requests: 2, count: 2, matches: 0.9, ..core },
            Self::DistinctAttribute => Mix { held: 0.15, requests: 2, count: 2, distinct: 0.9, ..core },
            Self::AdminAccess => Mix { requests: 2, admin: 0.5, ..core },
            Self::Taints => Mix { held: 0.2, taints: 0.6, tolerations: 0.6, ..core },
            Self::Shares => Mix {
                partitions: 0.0,
                shareable: 0.8,
                capacity_policies: 0.5,
                capacity: 0.6,
                requests: 2,
                ..core
            },
            Self::SharesOfPartitions => Mix { shareable: 0.5, capacity: 0.4, requests: 2, ..core },
            Self::CapacityRequests => Mix { capacity: 0.9, capacity_policies: 0.5, ..core },
            Self::BindingConditions => Mix { binding: 0.3, requests: 2, ..core },
            Self::BrokenPools => Mix { held: 0.2, broken: 0.6, all: 0.2, ..core },
            Self::Placement => Mix { placed: 0.7, requests: 2, held: 0.3, ..core },
            Self::SeveralClaims => Mix { held: 0.2, claims: 3, requests: 2, matches: 0.2, ..core },
            Self::OverCommitted => Mix { held: 0.3, over_commit: true, partitions: 1.0, ..core },
            Self::Everything => Mix {
                partitions: 0.6,
                held: 0.2,
                over_commit: false,
                taints: 0.15,
                tolerations: 0.5,
                shareable: 0.2,
                capacity_policies: 0.3,
                binding: 0.1,
                broken: 0.1,
                placed: 0.3,
                claims: 2,
                requests: 2,
                count: 2,
                all: 0.1,
                lists: 0.3,
                selectors: 0.3,
                failing: false,
                matches: 0.2,
                distinct: 0.1,
                admin: 0.1,
                capacity: 0.3,
            },
        }
    }

    /// Makes a random state of the class.
    pub(crate) fn state(self, random: &mut SmallRng) -> State {
        let mut mix = self.mix();
        // Some clusters are nearly full, some nearly empty.
        mix.held *= random.random_range(0.0..2.0);
        let mut state = cluster::make(&mix, random);
        state.want = claims::make(&mix, random);
        state.limit = 40;
        state
    }
}

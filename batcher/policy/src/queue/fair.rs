//! Weighted fair shares between the tenants of a class: start-time fair queueing (Goyal, Vin, Cheng, SIGCOMM'96)
//! by rows.
//!
//! Each tenant with requests that wait has a start tag, in rows per weight. The one with the least tag is served
//! next, and its tag grows by the rows served ÷ its weight. A tenant that comes (back) starts where the least tag
//! is: a tenant earns no credit while it is idle, and service before the others came is remembered until they have
//! caught up. A tenant that waits alone gets everything.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

/// Rows per weight, in units of 2⁻³² rows, so that one row at any weight (up to `u32::MAX`) is more than 0.
type Tag = u128;
const ONE_ROW: Tag = 1 << 32;

/// Returns the amount by which a tenant's tag grows for `rows` served rows.
pub(super) fn charge(rows: u32, weight: u32) -> Tag {
    Tag::from(rows) * ONE_ROW / Tag::from(weight.max(1))
}

/// Tags of all tenants that wait, or have been served ahead of the others.
#[derive(Debug, Default)]
pub(super) struct FairShares {
    flows: BTreeMap<(u8, u32), Flow>,
    /// Least start tag of the waiting tenants, by class; it never goes back while a tenant of the class waits.
    virtual_time: BTreeMap<u8, Tag>,
}

/// Share of a tenant in a class.
#[derive(Debug, Default)]
struct Flow {
    tag: Tag,
    requests: usize,
    rows: u64,
}

fn tenants_of(class: u8) -> RangeInclusive<(u8, u32)> {
    (class, 0)..=(class, u32::MAX)
}

impl FairShares {
    /// Notes that a request begins to wait.
    pub(super) fn enter(&mut self, class: u8, tenant: u32, rows: u32) {
        let flow = self.flows.entry((class, tenant)).or_default();
        if flow.requests == 0 {
            flow.tag = flow.tag.max(*self.virtual_time.entry(class).or_default());
        }
        flow.requests += 1;
        flow.rows += u64::from(rows);
    }

    /// Notes that a request no longer waits. Call [`FairShares::serve`] before, where it was served.
    pub(super) fn leave(&mut self, class: u8, tenant: u32, rows: u32) {
        let Some(flow) = self.flows.get_mut(&(class, tenant)) else { return };
        flow.requests -= 1;
        flow.rows -= u64::from(rows);
        if flow.requests == 0 {
            self.settle(class);
        }
    }

    /// Notes that a tenant's request is dispatched. While no other tenant counts in the class, the tag need not grow.
    pub(super) fn serve(&mut self, class: u8, tenant: u32, rows: u32, weight: u32) {
        if self.flows.range(tenants_of(class)).nth(1).is_some()
            && let Some(flow) = self.flows.get_mut(&(class, tenant))
        {
            flow.tag += charge(rows, weight);
        }
    }

    /// Notes that all requests of a batch were served and have left.
    pub(super) fn settle_all(&mut self) {
        for class in self.virtual_time.keys().copied().collect::<Vec<_>>() {
            self.settle(class);
        }
    }

    /// Advances the virtual time of a class and forgets idle tenants that it has caught up with.
    fn settle(&mut self, class: u8) {
        let waiting = self.flows.range(tenants_of(class)).filter(|(_, flow)| flow.requests > 0);
        let Some(least) = waiting.map(|(_, flow)| flow.tag).min() else {
            // No tenant waits: the next ones start with equal tags.
            self.virtual_time.remove(&class);
            while let Some((&flow, _)) = self.flows.range(tenants_of(class)).next() {
                self.flows.remove(&flow);
            }
            return;
        };
        let now = self.virtual_time.entry(class).or_default();
        *now = least.max(*now);
        let now = *now;
        let is_over = |flow: &Flow| flow.requests == 0 && flow.tag <= now;
        while let Some((&key, _)) = self.flows.range(tenants_of(class)).find(|(_, flow)| is_over(flow)) {
            self.flows.remove(&key);
        }
    }

    /// Returns the start tag of a tenant that waits; 0 for an unknown one.
    pub(super) fn tag(&self, class: u8, tenant: u32) -> Tag {
        self.flows.get(&(class, tenant)).map_or(0, |flow| flow.tag)
    }

    /// Returns the first class from `least` on in which tenants wait, and these tenants.
    pub(super) fn first_class(&self, least: u8) -> Option<(u8, impl Iterator<Item = u32>)> {
        let (&(class, _), _) = self.flows.range((least, 0)..).find(|(_, flow)| flow.requests > 0)?;
        let waiting = self.flows.range(tenants_of(class)).filter(|(_, flow)| flow.requests > 0);
        Some((class, waiting.map(|(&(_, tenant), _)| tenant)))
    }

    /// Returns the number of waiting rows.
    pub(super) fn rows(&self) -> u64 {
        self.flows.values().map(|flow| flow.rows).sum()
    }

    pub(super) fn clear(&mut self) {
        self.flows.clear();
        self.virtual_time.clear();
    }
}

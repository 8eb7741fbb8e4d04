//! Counts the rows that wait, by class and tenant, for the decision on arrival.

use std::collections::BTreeMap;

/// Weight of one batch in the average of recent service: half of the average is forgotten after seven batches.
const NEWS: f64 = 0.1;
/// A part of the service below this counts as none.
const LEAST_PART: f64 = 0.01;
/// Smallest part of the service, 0 to 1, that a prediction assumes for a request that others overtake, so that no
/// prediction is infinite.
const LEAST_AVAILABLE: f64 = 0.02;

/// Priority class and tenant of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Flow {
    /// Priority class, 0 is served first.
    pub class: u8,
    /// Tenant; 0 where there are no tenants.
    pub tenant: u32,
    /// The tenant's weight, at least 1.
    pub weight: u32,
}

/// Waiting rows and recent service, by class and tenant. It follows the [`crate::WaitQueue`], and can be read where the
/// queue itself is not at hand.
#[derive(Debug, Default)]
pub struct Backlog {
    flows: BTreeMap<(u8, u32), Amount>,
}

#[derive(Debug, Default)]
struct Amount {
    rows: u64,
    requests: u64,
    weight: u32,
    /// Part of the rows of recent batches.
    part: f64,
}

impl Amount {
    fn is_active(&self) -> bool {
        self.rows > 0 || self.part >= LEAST_PART
    }
}

impl Backlog {
    /// Creates an empty backlog.
    pub fn new() -> Self {
        Self::default()
    }

    /// Notes that a request begins to wait.
    pub fn enter(&mut self, flow: Flow, rows: u32) {
        let amount = self.flows.entry((flow.class, flow.tenant)).or_default();
        amount.weight = flow.weight.max(1);
        amount.rows += u64::from(rows);
        amount.requests += 1;
    }

    /// Notes that a request no longer waits.
    pub fn leave(&mut self, flow: Flow, rows: u32) {
        if let Some(amount) = self.flows.get_mut(&(flow.class, flow.tenant)) {
            amount.rows = amount.rows.saturating_sub(u64::from(rows));
            amount.requests = amount.requests.saturating_sub(1);
        }
    }

    /// Notes a dispatched batch, given as flow and rows of each of its requests. For each of them [`Backlog::leave`]
    /// has to be called as well.
    pub fn served(&mut self, batch: impl Iterator<Item = (Flow, u32)> + Clone) {
        let total: u64 = batch.clone().map(|(_, rows)| u64::from(rows)).sum();
        if total == 0 {
            return;
        }
        for amount in self.flows.values_mut() {
            amount.part *= 1.0 - NEWS;
        }
        for (flow, rows) in batch {
            if let Some(amount) = self.flows.get_mut(&(flow.class, flow.tenant)) {
                amount.part += NEWS * f64::from(rows) / total as f64;
            }
        }
        self.flows.retain(|_, amount| amount.is_active());
    }

    /// Returns the number of waiting rows.
    pub fn rows(&self) -> u64 {
        self.flows.values().map(|amount| amount.rows).sum()
    }

    /// Returns whether another tenant has waiting requests or was served lately.
    pub fn has_others_than(&self, tenant: u32) -> bool {
        self.flows.iter().any(|((_, other), amount)| *other != tenant && amount.is_active())
    }

    /// Returns the number of waiting requests of a tenant, over all classes.
    pub fn requests_of(&self, tenant: u32) -> u64 {
        let own = self.flows.iter().filter(|((_, other), _)| *other == tenant);
        own.map(|(_, amount)| amount.requests).sum()
    }

    /// Predicts the rows that will be served before a request of this flow that arrives now with `rows` rows:
    ///
    /// - All rows that wait in classes before its own, and all rows of its own tenant in its class.
    /// - Of the rows of another tenant as many as the fair share lets pass meanwhile: by the weights, however many
    ///   wait.
    /// - Rows that will arrive later and still be served before: classes before its own, and tenants within their
    ///   shares, had a part of the last batches and are expected to keep it. Without this, admission would promise too
    ///   much to a request that is overtaken.
    pub fn rows_ahead(&self, flow: Flow, rows: u32) -> u64 {
        let (mut before, mut own) = (0, 0);
        let mut overtaking = 0.0;
        let mut weights = f64::from(flow.weight.max(1));
        for (&(class, tenant), amount) in self.flows.range(..=(flow.class, u32::MAX)) {
            if class < flow.class {
                before += amount.rows;
                overtaking += amount.part;
            } else if tenant == flow.tenant {
                own = amount.rows;
            } else if amount.is_active() {
                weights += f64::from(amount.weight);
            }
        }
        let mut others = 0;
        for (&(_, tenant), amount) in self.flows.range((flow.class, 0)..=(flow.class, u32::MAX)) {
            if tenant == flow.tenant || !amount.is_active() {
                continue;
            }
            let meanwhile = u128::from(own + u64::from(rows)) * u128::from(amount.weight);
            let meanwhile = meanwhile.div_ceil(u128::from(flow.weight.max(1)));
            others += u64::try_from(meanwhile).unwrap_or(u64::MAX).min(amount.rows);
            overtaking += amount.part.min(f64::from(amount.weight) / weights);
        }
        let now = before + own + others;
        let with_later = (before + own) as f64 / (1.0 - overtaking).max(LEAST_AVAILABLE);
        // For rows that arrive at random, the 95th percentile of their number (normal approximation of a Poisson
        // count).
        let margin = 1.645 * (overtaking * with_later).sqrt();
        // The cast saturates.
        now.max((with_later + margin) as u64)
    }
}

//! How large a batch may be.

use crate::ServiceCurve;

/// The sizes that a batch may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchSizes {
    cap_rows: u32,
    allowed: Vec<u32>,
}

impl BatchSizes {
    /// Any size up to `cap_rows` (at least 1).
    pub fn up_to(cap_rows: u32) -> Self {
        Self { cap_rows: cap_rows.max(1), allowed: Vec::new() }
    }

    /// Only the sizes in `allowed` that are within `cap_rows`: smaller batches are padded up to one by the server.
    /// Without any such size this is [`BatchSizes::up_to`].
    pub fn allowed(cap_rows: u32, allowed: &[u32]) -> Self {
        let mut sizes = Self::up_to(cap_rows);
        sizes.allowed =
            allowed.iter().copied().filter(|&rows| (1..=sizes.cap_rows).contains(&rows)).collect();
        sizes.allowed.sort_unstable();
        sizes.allowed.dedup();
        sizes
    }

    /// The largest size.
    pub fn cap_rows(&self) -> u32 {
        self.allowed.last().copied().unwrap_or(self.cap_rows)
    }
}

/// B\*: the most rows b with 2·L(b) ≤ `objective_us`, among `sizes`; at least the smallest of them. Before there is a curve: the largest.
pub fn batch_limit(curve: Option<&ServiceCurve>, objective_us: u64, sizes: &BatchSizes) -> u32 {
    todo!()
}

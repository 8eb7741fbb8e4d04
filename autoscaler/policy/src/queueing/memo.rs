//! Memo of quantiles that this thread has computed. It changes the time that a result takes, never the result.
use std::cell::RefCell;
use std::collections::BTreeMap;

use super::{GRID, QueueModel, chain};

/// Number of curves after which the memo is emptied.
const CURVES: usize = 64;

type Key = (u64, u64, u32, u64);
type Quantiles = [Option<f64>; GRID as usize + 1];

thread_local! {
    static MEMO: RefCell<BTreeMap<Key, Quantiles>> = const { RefCell::new(BTreeMap::new()) };
}

/// Returns the quantile of the slot at load `step` / GRID.
pub(super) fn quantile_ms(slot: &QueueModel, step: u16) -> f64 {
    let key = (slot.alpha_ms.to_bits(), slot.unit_ms.to_bits(), slot.units, slot.quantile.to_bits());
    let index = usize::from(step.min(GRID));
    let known = MEMO.with_borrow(|memo| memo.get(&key).and_then(|quantiles| quantiles[index]));
    known.unwrap_or_else(|| {
        let quantile = chain::quantile_ms(slot, f64::from(step) / f64::from(GRID));
        MEMO.with_borrow_mut(|memo| {
            if memo.len() >= CURVES && !memo.contains_key(&key) {
                memo.clear();
            }
            memo.entry(key).or_insert([None; GRID as usize + 1])[index] = Some(quantile);
        });
        quantile
    })
}

//! Consumable capacity: how much of a device's capacity a request consumes, and whether that much is left.
use k8s_openapi::api::resource::v1::{CapacityRequestPolicyRange, DeviceCapacity};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use std::collections::BTreeMap;

use super::{Features, Reason};
use crate::quantity;

const UNIT: i128 = 1_000_000_000;
const MILLI: i128 = 1_000_000;

/// Error of an amount that is not a quantity, or is too fine or too large for the units of a policy.
struct Uncountable;

fn uncountable(name: &str, of: &DeviceCapacity) -> Reason {
    Reason::Uncountable { capacity: name.to_owned(), value: of.value.0.clone() }
}

/// Returns what the request consumes of each capacity of the device, in nano-units. Returns `None` where the device
/// lacks a capacity that is asked for, its policy does not allow the amount, or too little is left beside `used`.
///
/// # Errors
/// An amount is not a valid number for the device's policy. The scheduler then aborts the attempt.
pub(super) fn consumed<'a>(
    features: Features,
    wanted: &BTreeMap<&str, i128>,
    capacity: Option<&'a BTreeMap<String, DeviceCapacity>>,
    used: impl Fn(&str) -> i128,
) -> Result<Option<BTreeMap<&'a str, i128>>, Reason> {
    let has = |name: &str| capacity.is_some_and(|capacity| capacity.contains_key(name));
    if !wanted.keys().all(|name| has(name)) {
        return Ok(None);
    }
    let mut consumed = BTreeMap::new();
    for (name, of) in capacity.into_iter().flatten() {
        let amount = amount(features, wanted.get(name.as_str()).copied(), of);
        let amount = amount.ok().filter(|amount| *amount >= 0).ok_or_else(|| uncountable(name, of))?;
        consumed.insert(name.as_str(), amount);
    }
    for (name, of) in capacity.into_iter().flatten() {
        let amount = consumed.get(name.as_str()).copied().unwrap_or(0);
        let fits = is_allowed(features, amount, of)
            .and_then(|is_allowed| Ok(is_allowed && amount + used(name) <= read(&of.value)?));
        if !fits.map_err(|Uncountable| uncountable(name, of))? {
            return Ok(None);
        }
    }
    Ok(Some(consumed))
}

/// Returns the amount that is asked for, rounded up to one that the policy allows. Where no amount is asked for,
/// returns the policy's default, or else all of the capacity.
fn amount(features: Features, wanted: Option<i128>, of: &DeviceCapacity) -> Result<i128, Uncountable> {
    let policy = of.request_policy.as_ref();
    let Some(wanted) = wanted else {
        return read(policy.and_then(|policy| policy.default.as_ref()).unwrap_or(&of.value));
    };
    let Some(policy) = policy else { return Ok(wanted) };
    if let Some(range) = &policy.valid_range {
        return round_up(features, wanted, range);
    }
    for value in policy.valid_values.iter().flatten() {
        let value = read(value)?;
        if wanted <= value {
            return Ok(value);
        }
    }
    Ok(wanted)
}

/// Returns the least amount of the range that is at least `wanted`.
fn round_up(
    features: Features,
    wanted: i128,
    range: &CapacityRequestPolicyRange,
) -> Result<i128, Uncountable> {
    let least = read(&range.min)?;
    if wanted < least {
        return Ok(least);
    }
    let Some(step) = &range.step else { return Ok(wanted) };
    let grain = grain(features, range)?;
    if grain == MILLI && wanted % MILLI != 0 {
        return Err(Uncountable);
    }
    let [wanted, least, step] = [wanted, least, read(step)?].map(|amount| in_grains(amount, grain));
    if step == 0 {
        return Err(Uncountable);
    }
    let steps = (wanted - least).div_euclid(step) + i128::from((wanted - least).rem_euclid(step) != 0);
    let rounded = least + steps * step;
    match i64::try_from(rounded) {
        Ok(_) => Ok(rounded * grain),
        Err(_) => Err(Uncountable),
    }
}

/// Returns whether the policy allows an amount.
fn is_allowed(features: Features, amount: i128, of: &DeviceCapacity) -> Result<bool, Uncountable> {
    let Some(policy) = &of.request_policy else { return Ok(true) };
    if let Some(default) = &policy.default
        && read(default)? == amount
    {
        return Ok(true);
    }
    if let Some(range) = &policy.valid_range {
        if let Some(max) = &range.max
            && amount > read(max)?
        {
            return Ok(false);
        }
        let Some(step) = &range.step else { return Ok(true) };
        let grain = grain(features, range)?;
        if grain == MILLI && amount % MILLI != 0 {
            return Ok(false);
        }
        let [amount, min, step] =
            [amount, read(&range.min)?, read(step)?].map(|amount| in_grains(amount, grain));
        return Ok(step != 0 && (amount - min) % step == 0);
    }
    match policy.valid_values.as_deref() {
        None | Some([]) => Ok(true),
        Some(values) => {
            let values: Vec<i128> = values.iter().map(read).collect::<Result<_, _>>()?;
            Ok(values.contains(&amount))
        }
    }
}

/// Returns the unit in which a range counts, in nano-units: thousandths where all of its amounts are whole numbers of
/// them and its step is at least one of them, else wholes.
fn grain(features: Features, range: &CapacityRequestPolicyRange) -> Result<i128, Uncountable> {
    if !features.fractional_capacity_range {
        return Ok(UNIT);
    }
    for amount in [Some(&range.min), range.max.as_ref(), range.step.as_ref()].into_iter().flatten() {
        let amount = read(amount)?;
        if amount % MILLI != 0 || i64::try_from(amount / MILLI).is_err() {
            return Ok(UNIT);
        }
    }
    match &range.step {
        Some(step) if read(step)? < MILLI => Ok(UNIT),
        _ => Ok(MILLI),
    }
}

/// Returns an amount as a whole number of grains, rounded away from zero as Kubernetes does.
fn in_grains(amount: i128, grain: i128) -> i128 {
    amount / grain + if amount % grain == 0 { 0 } else { amount.signum() }
}

fn read(amount: &Quantity) -> Result<i128, Uncountable> {
    quantity::nano(&amount.0).ok_or(Uncountable)
}

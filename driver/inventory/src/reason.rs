//! Reasons why no (further) claim fits, as sentences that a person can act on: which profile, which pool, who holds
//! it.
use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::Ledger;
use crate::pools::Pool;
use crate::reader::Reader;
use crate::request::Request;
use crate::view::{Eligible, View, profile};
use sluice_config::names::devices as names;

/// Maximum phrases about one pool.
const PHRASES: usize = 6;
/// Maximum pools that a reason names.
const POOLS: usize = 4;

/// Returns why a claim does not fit.
pub(crate) fn no_fit(
    view: &View<'_>,
    ledger: &Ledger,
    requests: &[Request<'_>],
    eligible: &[Eligible],
) -> String {
    if requests.is_empty() {
        return "the claim requests no device".to_owned();
    }
    let parts = requests.iter().zip(eligible).map(|(request, eligible)| {
        let class = request.class.metadata.name.as_deref().unwrap_or_default();
        let what = profile_of(view, eligible).unwrap_or(class);
        let what = if request.count > 1 { format!("{} x {what}", request.count) } else { what.to_owned() };
        blockers(view, ledger, eligible, &what, &vec![0; view.pools.len()])
    });
    parts.collect::<Vec<_>>().join("; ")
}

/// Returns the profile that all eligible devices have; `None` if they differ.
pub(crate) fn profile_of<'a>(view: &View<'a>, eligible: &Eligible) -> Option<&'a str> {
    let pools = view.pools.iter().enumerate();
    let mut profiles =
        pools.flat_map(|(p, pool)| eligible.of_pool(p).map(move |device| profile(pool, device)));
    let first = profiles.next()??;
    profiles.all(|profile| profile == Some(first)).then_some(first)
}

/// Returns what prevents a further claim: `2g.10gb: 0 free in pool n/gpu: memory slices 0-3 of gpu-0 held by
/// default/bert-1; …`. `placed` is the number of claims that were placed in each pool before it was full, and
/// `ledger` already has these.
pub(crate) fn blockers(
    view: &View<'_>,
    ledger: &Ledger,
    eligible: &Eligible,
    what: &str,
    placed: &[u32],
) -> String {
    let mut parts = Vec::new();
    let mut omitted = 0_usize;
    for (p, pool) in view.pools.iter().enumerate() {
        if eligible.of_pool(p).next().is_none() && pool.unusable.is_none() {
            continue;
        }
        if parts.len() >= POOLS {
            omitted += 1;
            continue;
        }
        parts.push(match view.unusable(pool) {
            Some(why) => format!("pool {} is not counted ({why})", pool.name),
            None => {
                let phrases = in_pool(view.reader, ledger, eligible, p, pool, what);
                let shown = phrases.len().min(PHRASES);
                let more = if phrases.len() > shown {
                    format!(", and {} more", phrases.len() - shown)
                } else {
                    String::new()
                };
                let colon = if shown == 0 { "" } else { ": " };
                format!(
                    "{} free in pool {}{colon}{}{more}",
                    placed[p],
                    pool.name,
                    phrases[..shown].join(", ")
                )
            }
        });
    }
    if omitted > 0 {
        parts.push(format!("and {omitted} more pools"));
    }
    if parts.is_empty() {
        return format!("{what}: no pool publishes a matching device");
    }
    format!("{what}: {}", parts.join("; "))
}

/// Part of a counter set that one holder has.
#[derive(Default)]
struct Share {
    devices: BTreeSet<usize>,
    counters: Vec<usize>,
}

/// Returns one phrase per holder and counter set, then one for what is free but makes no placement. Holders whose
/// names the reader may not see are combined.
fn in_pool(
    reader: Reader<'_>,
    ledger: &Ledger,
    eligible: &Eligible,
    p: usize,
    pool: &Pool<'_>,
    what: &str,
) -> Vec<String> {
    // Counters that any eligible device consumes.
    let mut needed = vec![false; pool.counters.len()];
    for device in eligible.of_pool(p) {
        pool.devices[device].draws.iter().for_each(|&(counter, _)| needed[counter] = true);
    }
    // By counter set and holder. Devices without counters are held as a whole.
    let mut held: BTreeMap<(usize, Option<&str>), Share> = BTreeMap::new();
    let mut whole = Vec::new();
    let mut whole_of_others = 0_usize;
    for hold in ledger.holds.iter().filter(|hold| hold.at.0 == p) {
        let Some(holder) = &hold.holder else { continue };
        let known = Some(holder.as_str()).filter(|holder| reader.may_know(holder));
        let device = &pool.devices[hold.at.1];
        if device.draws.is_empty() && eligible.is(hold.at) {
            match known {
                Some(holder) => whole.push(format!("{} held by {holder}", device.object.name)),
                None => whole_of_others += 1,
            }
        }
        for &(counter, _) in device.draws.iter().filter(|(counter, _)| needed[*counter]) {
            let share = held.entry((first_of_set(pool, counter), known)).or_default();
            share.devices.insert(hold.at.1);
            share.counters.push(counter);
        }
    }
    if whole_of_others > 0 {
        whole.push(by_others(whole_of_others));
    }
    let mut phrases: Vec<(usize, usize, String)> = held
        .into_iter()
        .map(|((set, holder), Share { devices, mut counters })| {
            counters.sort_by_key(|&c| slice_number(pool, c));
            counters.dedup();
            let first = counters.first().map_or(0, |&c| slice_number(pool, c).unwrap_or(usize::MAX));
            let counters = counters_in_words(pool, &counters);
            let phrase = match holder {
                Some(holder) => format!("{counters} held by {holder}"),
                None => format!("{counters} in {}", by_others(devices.len())),
            };
            (set, first, phrase)
        })
        .collect();
    phrases.sort();
    let mut phrases: Vec<String> = phrases.into_iter().map(|(_, _, phrase)| phrase).collect();
    phrases.extend(whole);
    phrases.extend(left_over(ledger, p, pool, &needed, what));
    phrases
}

fn by_others(devices: usize) -> String {
    format!("{devices} device{} held by other namespaces", if devices == 1 { "" } else { "s" })
}

/// Returns phrases about memory slices that are free and still make no placement.
fn left_over(ledger: &Ledger, p: usize, pool: &Pool<'_>, needed: &[bool], what: &str) -> Vec<String> {
    let mut by_set: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (counter, _) in needed.iter().enumerate().filter(|(_, needed)| **needed) {
        if ledger.available(p, counter) > 0 && slice_number(pool, counter).is_some() {
            by_set.entry(first_of_set(pool, counter)).or_default().push(counter);
        }
    }
    by_set
        .into_values()
        .map(|mut counters| {
            counters.sort_by_key(|&c| slice_number(pool, c));
            format!("{} free but no placement of {what}", counters_in_words(pool, &counters))
        })
        .collect()
}

/// Returns the index of the first counter of the same set, which stands for the set.
fn first_of_set(pool: &Pool<'_>, counter: usize) -> usize {
    let set = pool.counters[counter].set;
    pool.counters.iter().position(|c| c.set == set).unwrap_or(counter)
}

fn slice_number(pool: &Pool<'_>, counter: usize) -> Option<usize> {
    pool.counters[counter].name.strip_prefix(names::MEMORY_SLICE_PREFIX)?.parse().ok()
}

/// Returns a phrase such as `memory slices 0-3, 6 of gpu-0` for counters of one set in ascending order.
fn counters_in_words(pool: &Pool<'_>, counters: &[usize]) -> String {
    let Some(&first) = counters.first() else { return String::new() };
    let set = pool.counters[first].set;
    let owner = set.strip_suffix(names::COUNTER_SET_SUFFIX).unwrap_or(set);
    let slices: Vec<usize> = counters.iter().filter_map(|&c| slice_number(pool, c)).collect();
    let others = counters.iter().filter(|&&c| slice_number(pool, c).is_none());
    let mut words = Vec::new();
    if !slices.is_empty() {
        words.push(format!("memory slice{} {}", if slices.len() > 1 { "s" } else { "" }, ranges(&slices)));
    }
    words.extend(others.map(|&c| match pool.counters[c].name {
        names::MEDIA_EXTENSIONS_COUNTER => "media extensions".to_owned(),
        name => format!("counter {name}"),
    }));
    format!("{} of {owner}", words.join(" and "))
}

/// Formats ascending numbers as ranges: `0-3, 6`.
fn ranges(numbers: &[usize]) -> String {
    let mut parts: Vec<(usize, usize)> = Vec::new();
    for &number in numbers {
        match parts.last_mut() {
            Some((_, end)) if *end + 1 == number => *end = number,
            _ => parts.push((number, number)),
        }
    }
    let text = |&(a, b): &(usize, usize)| if a == b { a.to_string() } else { format!("{a}-{b}") };
    parts.iter().map(text).collect::<Vec<_>>().join(", ")
}

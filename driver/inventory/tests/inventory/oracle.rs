//! Comparison with a brute-force oracle that knows GPUs and placements, but no counters, pools or CEL.
use crate::fixtures::*;
use proptest::prelude::*;
use sluice_inventory::*;

/// Device of the oracle: its GPU, its memory slices, and whether it takes the media engines.
#[derive(Clone, Debug)]
struct Plain {
    name: String,
    profile: String,
    gpu: u32,
    slices: Vec<u8>,
    media: bool,
}

fn plain(gpus: &[Gpu]) -> Vec<Plain> {
    let index = DeviceIndex::new(gpus);
    let devices = index.iter().map(|entry| {
        let gpu = gpus.iter().find(|g| g.minor == entry.gpu_minor).unwrap();
        let (slices, media) = match &entry.kind {
            DeviceKind::Full => ((0..gpu.memory_slices).collect(), true),
            DeviceKind::Mig { placement, profile, .. } => {
                (placement.slices().collect(), profile.ends_with("+me"))
            }
        };
        Plain {
            name: entry.name.clone(),
            profile: entry.profile().to_owned(),
            gpu: entry.gpu_minor,
            slices,
            media,
        }
    });
    devices.collect()
}

fn conflict(a: &Plain, b: &Plain) -> bool {
    a.gpu == b.gpu && ((a.media && b.media) || a.slices.iter().any(|s| b.slices.contains(s)))
}

/// Returns the first device of the profile that conflicts with no held one.
fn first_fit<'a>(devices: &'a [Plain], held: &[Plain], profile: &str) -> Option<&'a Plain> {
    devices.iter().find(|d| d.profile == profile && !held.iter().any(|h| conflict(h, d)))
}

fn gpus() -> impl Strategy<Value = Vec<Gpu>> {
    prop::collection::vec((0..3_usize, any::<bool>()), 1..4).prop_map(|kinds| {
        let gpu = |(minor, (kind, switchable)): (usize, (usize, bool))| {
            let mut gpu = [a100_40, h100_80, a30][kind](minor as u32);
            gpu.mig_switchable = switchable;
            gpu
        };
        kinds.into_iter().enumerate().map(gpu).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// Random placing and releasing: every step chooses the device that brute force chooses, the free count is that
    /// of repeated placing, the table agrees, and no device is held twice.
    #[test]
    fn first_fit_and_free_counts_equal_brute_force(
        gpus in gpus(),
        steps in prop::collection::vec((any::<prop::sample::Index>(), any::<bool>(), any::<prop::sample::Index>()), 1..14),
    ) {
        let devices = plain(&gpus);
        let mut profiles: Vec<String> = Vec::new();
        devices.iter().filter(|d| d.profile != "full").for_each(|d| if !profiles.contains(&d.profile) { profiles.push(d.profile.clone()) });
        let mut cluster = cluster(&[("n", gpus.clone())]);
        let mut held: Vec<Plain> = Vec::new();
        for (step, (profile, release, victim)) in steps.iter().enumerate() {
            if *release && !held.is_empty() {
                let victim = victim.index(held.len());
                held.remove(victim);
                cluster.claims.remove(victim);
                continue;
            }
            let profile = profile.get(&profiles);
            let want = first_fit(&devices, &held, profile);
            let got = place(&mut cluster, &format!("c{step}"), &class(profile));
            prop_assert_eq!(got.ok().map(|d| d[0].clone()), want.map(|d| d.name.clone()));
            held.extend(want.cloned());
        }
        for (i, a) in held.iter().enumerate() {
            prop_assert!(held[i + 1..].iter().all(|b| !conflict(a, b)));
        }
        let table = capacity_table(&cluster);
        for profile in &profiles {
            let mut trial = held.clone();
            let mut count = 0;
            while let Some(device) = first_fit(&devices, &trial, profile) {
                trial.push(device.clone());
                count += 1;
            }
            prop_assert_eq!(free_slices(&cluster, &class(profile), &[], 1000).unwrap().free, count);
            let row = table[0].profiles.iter().find(|row| &row.profile == profile).unwrap();
            prop_assert_eq!(row.free, count);
            prop_assert_eq!(row.in_use as usize, held.iter().filter(|h| &h.profile == profile).count());
        }
    }

    /// A claim for n devices is placed exactly if some n devices without conflict exist.
    #[test]
    fn a_claim_for_several_is_placed_if_and_only_if_it_can_be(
        holes in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        profile in 0..7_usize,
        count in 1..4_i64,
    ) {
        let gpus = [a100_40(0), a30(1)];
        let devices = plain(&gpus);
        let mut cluster = cluster(&[("n", gpus.to_vec())]);
        let mut held: Vec<Plain> = Vec::new();
        for hole in &holes {
            let device = hole.get(&devices);
            if !held.iter().any(|h| conflict(h, device)) {
                hold(&mut cluster, "h", "n", &device.name);
                held.push(device.clone());
            }
        }
        let profile = &["1g.5gb", "1g.5gb+me", "1g.10gb", "2g.10gb", "3g.20gb", "4g.20gb", "7g.40gb"][profile];
        let free: Vec<&Plain> = devices.iter().filter(|d| &d.profile == profile && !held.iter().any(|h| conflict(h, d))).collect();
        let want = lexicographically_first(&free, count as usize, 0, &mut Vec::new());
        let got = allocate(&cluster, &claim("c", &class(profile), count)).ok().map(|a| crate::fixtures::devices(&a));
        prop_assert_eq!(got, want);
    }
}

fn lexicographically_first(
    free: &[&Plain],
    count: usize,
    from: usize,
    chosen: &mut Vec<Plain>,
) -> Option<Vec<String>> {
    if chosen.len() == count {
        return Some(chosen.iter().map(|d| d.name.clone()).collect());
    }
    for i in from..free.len() {
        if !chosen.iter().any(|c| conflict(c, free[i])) {
            chosen.push(free[i].clone());
            let found = lexicographically_first(free, count, i + 1, chosen);
            if found.is_some() {
                return found;
            }
            chosen.pop();
        }
    }
    None
}

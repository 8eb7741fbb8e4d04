use crate::fixtures::*;
use sluice_inventory::{AllocationError, Promised, allocate, free_slices, free_slices_seen_from};

fn promised(profile: &str, claims: u32) -> Promised {
    Promised { device_class: class(profile), claims, holder: "default/bert".to_owned() }
}

#[test]
fn an_empty_gpu_takes_as_many_as_its_geometry_allows() {
    let cluster = cluster(&[("n", vec![a100_40(0)])]);
    for (profile, count) in [
        ("1g.5gb", 7),
        ("1g.5gb+me", 1),
        ("1g.10gb", 4),
        ("2g.10gb", 3),
        ("3g.20gb", 2),
        ("4g.20gb", 1),
        ("7g.40gb", 1),
    ] {
        let free = free_slices(&cluster, &class(profile), &[], 99).unwrap();
        assert_eq!((free.free, free.profile.as_str()), (count, profile));
    }
}

#[test]
fn a_1g_at_placement_2_makes_a_free_looking_2g_not_fit() {
    let mut cluster = cluster(&[("n", vec![a100_40(0)])]);
    hold(&mut cluster, "bert-0", "n", "gpu-0-mig-3g-20gb-4");
    hold(&mut cluster, "bert-1", "n", "gpu-0-mig-1g-5gb-0");
    hold(&mut cluster, "bert-2", "n", "gpu-0-mig-1g-5gb-2");
    // Memory slices 1 and 3 are free: enough memory for a 2g, but no placement.
    let free = free_slices(&cluster, &class("2g.10gb"), &[], 9).unwrap();
    assert_eq!(free.free, 0);
    assert_eq!(
        free.reason,
        "2g.10gb: 0 free in pool n/gpu: memory slice 0 of gpu-0 held by default/bert-1, \
         memory slice 2 of gpu-0 held by default/bert-2, memory slices 4-5 of gpu-0 held by default/bert-0, \
         memory slices 1, 3 of gpu-0 free but no placement of 2g.10gb"
    );
    let ones = free_slices(&cluster, &class("1g.5gb"), &[], 9).unwrap();
    assert_eq!(ones.free, 2, "the same two slices do take two 1g");
}

#[test]
fn the_reason_names_who_holds_the_slices() {
    let mut cluster = cluster(&[("n", vec![a100_40(0)])]);
    hold(&mut cluster, "bert-1", "n", "gpu-0-mig-3g-20gb-0");
    let free = free_slices(&cluster, &class("4g.20gb"), &[], 9).unwrap();
    assert_eq!(
        free.reason,
        "4g.20gb: 0 free in pool n/gpu: memory slices 0-3 of gpu-0 held by default/bert-1"
    );
}

/// Texts for a tenant must not reveal anything of others: neither their claims, nor their targets, nor their
/// mistakes.
#[test]
fn holders_in_other_namespaces_are_counted_and_not_named() {
    let mut cluster = cluster(&[("n", vec![a100_40(0)])]);
    hold(&mut cluster, "bert-0", "n", "gpu-0-mig-2g-10gb-0");
    hold(&mut cluster, "secret-1", "n", "gpu-0-mig-1g-5gb-2");
    hold(&mut cluster, "secret-2", "n", "gpu-0-mig-1g-5gb-3");
    hold(&mut cluster, "secret-3", "n", "gpu-0-mig-9g-0");
    for claim in &mut cluster.claims {
        if claim.metadata.name.as_ref().is_some_and(|name| name.starts_with("secret")) {
            // A longer name that begins with the reader's namespace.
            claim.metadata.namespace = Some("default-tenant".to_owned());
        }
    }
    let promise =
        |class: String| Promised { device_class: class, claims: 1, holder: "tenant/secret".to_owned() };
    let promised = [promise(class("2g.10gb")), promise("secret-class".to_owned())];
    let seen = free_slices_seen_from("default", &cluster, &class("2g.10gb"), &promised, 9).unwrap();
    let told = format!("{}; {}", seen.reason, seen.problems.join("; "));
    assert!(!told.contains("secret") && !told.contains("tenant"), "{told}");
    for says in [
        "memory slices 0-1 of gpu-0 held by default/bert-0",
        "memory slices 2-5 of gpu-0 in 3 devices held by other namespaces",
        "another namespace holds device gpu-0-mig-9g-0",
        "what is promised to another namespace cannot be counted",
    ] {
        assert!(told.contains(says), "{told}");
    }
    // An invalid claim is reported to its users.
    let mut mine = claim("mine", &class("7g.40gb"), 1);
    mine.metadata.namespace = Some("default".to_owned());
    let refusal = allocate(&cluster, &mine).unwrap_err().to_string();
    assert!(refusal.contains("default/bert-0") && !refusal.contains("secret"), "{refusal}");
    let admin = free_slices(&cluster, &class("2g.10gb"), &promised, 9).unwrap();
    assert!(admin.reason.contains("default-tenant/secret-1"), "{}", admin.reason);
}

#[test]
fn promised_claims_are_placed_first() {
    let cluster = cluster(&[("n", vec![a100_40(0)])]);
    let free = |promised: &[Promised]| free_slices(&cluster, &class("2g.10gb"), promised, 9).unwrap();
    assert_eq!(free(&[promised("2g.10gb", 2)]).free, 1);
    let none = free(&[promised("2g.10gb", 2), promised("3g.20gb", 1)]);
    assert_eq!((none.free, none.promised_unplaced), (1, 1), "the 3g does not fit beside two 2g; one 2g does");
    let all = free(&[promised("7g.40gb", 1)]);
    assert_eq!(all.free, 0);
    assert!(all.reason.contains("held by default/bert (promised)"), "{}", all.reason);
}

#[test]
fn the_me_engine_is_one_per_gpu() {
    let mut cluster = cluster(&[("n", vec![a100_40(0), a100_40(1)])]);
    place(&mut cluster, "media", &class("1g.5gb+me")).unwrap();
    let free = free_slices(&cluster, &class("1g.5gb+me"), &[], 9).unwrap();
    assert_eq!(free.free, 1);
    assert!(free.reason.contains("media extensions of gpu-0 held by default/media"), "{}", free.reason);
}

#[test]
fn a_limit_ends_the_count() {
    let cluster = cluster(&[("n", vec![a100_40(0)])]);
    assert_eq!(free_slices(&cluster, &class("1g.5gb"), &[], 3).unwrap().free, 3);
}

#[test]
fn a_class_that_nothing_matches_says_so() {
    let mut cluster = cluster(&[("n", vec![a100_40(0)])]);
    cluster.slices.clear();
    let free = free_slices(&cluster, &class("2g.10gb"), &[], 3).unwrap();
    assert_eq!(free.free, 0);
    assert!(free.reason.ends_with("no pool publishes a matching device"), "{}", free.reason);
    assert!(matches!(free_slices(&cluster, "nope", &[], 3), Err(AllocationError::UnknownClass { .. })));
}

#[test]
fn a_device_that_is_no_longer_published_is_a_problem_and_no_holding() {
    let mut cluster = cluster(&[("n", vec![a100_40(0)])]);
    hold(&mut cluster, "ghost", "n", "gpu-5");
    let free = free_slices(&cluster, &class("7g.40gb"), &[], 3).unwrap();
    assert_eq!(free.free, 1);
    assert!(free.problems[0].contains("default/ghost holds device gpu-5"), "{:?}", free.problems);
}

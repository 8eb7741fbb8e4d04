use crate::fixtures::*;
use sluice_inventory::{Holder, capacity_table};

#[test]
fn the_table_has_a_row_per_profile_with_free_in_use_and_holders() {
    let mut cluster = cluster(&[("b", vec![a30(0)]), ("a", vec![a100_40(0)])]);
    hold(&mut cluster, "bert-1", "a", "gpu-0-mig-2g-10gb-4");
    let table = capacity_table(&cluster);
    let pools: Vec<_> = table.iter().map(|p| (p.pool.as_str(), p.node.as_deref())).collect();
    assert_eq!(pools, [("a/gpu", Some("a")), ("b/gpu", Some("b"))]);
    let rows: Vec<_> = table[0].profiles.iter().map(|p| (p.profile.as_str(), p.free, p.in_use)).collect();
    assert_eq!(
        rows,
        [
            ("1g.5gb", 5, 0),
            ("1g.5gb+me", 1, 0),
            ("1g.10gb", 3, 0),
            ("2g.10gb", 2, 1),
            ("3g.20gb", 1, 0),
            ("4g.20gb", 1, 0),
            ("7g.40gb", 0, 0)
        ]
    );
    let holder = Holder { claim: "default/bert-1".to_owned(), device: "gpu-0-mig-2g-10gb-4".to_owned() };
    assert_eq!(table[0].profiles[3].holders, [holder]);
}

#[test]
fn an_unschedulable_node_has_nothing_free_and_still_shows_its_holders() {
    let mut cluster = cluster(&[("a", vec![a100_40(0)])]);
    hold(&mut cluster, "bert-1", "a", "gpu-0-mig-2g-10gb-4");
    cluster.unschedulable_nodes.insert("a".to_owned());
    let pool = &capacity_table(&cluster)[0];
    assert_eq!(pool.unusable.as_deref(), Some("node a is unschedulable"));
    assert!(pool.profiles.iter().all(|p| p.free == 0));
    assert_eq!(pool.profiles.iter().map(|p| p.in_use).sum::<u32>(), 1);
}

use crate::fixtures::*;
use k8s_openapi::api::resource::v1::*;
use sluice_inventory::{AllocationError, allocate, capacity_table, free_slices};

#[test]
fn claims_fill_one_gpu_from_the_top_before_the_next_is_begun() {
    let mut cluster = cluster(&[("n", vec![a100_40(0), a100_40(1)])]);
    let mut next = || place(&mut cluster, "c", &class("2g.10gb")).unwrap().remove(0);
    assert_eq!(next(), "gpu-0-mig-2g-10gb-4");
    assert_eq!(next(), "gpu-0-mig-2g-10gb-2");
    assert_eq!(next(), "gpu-0-mig-2g-10gb-0");
    assert_eq!(next(), "gpu-1-mig-2g-10gb-4");
}

#[test]
fn an_allocation_reads_as_the_scheduler_writes_it() {
    let mut cluster = cluster(&[("n", vec![a100_40(0)])]);
    let opaque = |strategy: &str| {
        Some(OpaqueDeviceConfiguration {
            driver: DRIVER.to_owned(),
            parameters: serde_json::from_str(&format!("{{\"strategy\":\"{strategy}\"}}")).unwrap(),
        })
    };
    let mut claim = claim("c", &class("3g.20gb"), 1);
    claim.spec.devices.as_mut().unwrap().config =
        Some(vec![DeviceClaimConfiguration { requests: None, opaque: opaque("own") }]);
    let of_class =
        cluster.device_classes.iter_mut().find(|c| c.metadata.name == Some(class("3g.20gb"))).unwrap();
    of_class.spec.config = Some(vec![DeviceClassConfiguration { opaque: opaque("class") }]);
    let allocation = allocate(&cluster, &claim).unwrap();
    assert_eq!(allocation.node.as_deref(), Some("n"));
    let devices_ = allocation.result.devices.as_ref().unwrap();
    let result = &devices_.results.as_ref().unwrap()[0];
    assert_eq!(
        (result.request.as_str(), result.driver.as_str(), result.pool.as_str()),
        ("gpu", DRIVER, "n/gpu")
    );
    assert_eq!(result.device, "gpu-0-mig-3g-20gb-4");
    let sources: Vec<_> = devices_.config.iter().flatten().map(|c| c.source.as_str()).collect();
    assert_eq!(sources, ["FromClass", "FromClaim"], "later entries override");
    let terms = &allocation.result.node_selector.as_ref().unwrap().node_selector_terms;
    let field = &terms[0].match_fields.as_ref().unwrap()[0];
    assert_eq!((field.key.as_str(), field.operator.as_str()), ("metadata.name", "In"));
    assert_eq!(field.values.as_deref(), Some(&["n".to_owned()][..]));
}

#[test]
fn a_claim_for_several_devices_backtracks_where_first_fit_alone_would_fail() {
    // 3g before 4g: the first fit puts 3g at 4, which works. 1g@6 before 3g would leave 3g at 0 and no 4g, so the
    // search must backtrack and move the 3g.
    let cluster = cluster(&[("n", vec![a100_40(0)])]);
    let request = |name: &str, profile: &str| DeviceRequest {
        name: name.to_owned(),
        exactly: Some(ExactDeviceRequest {
            device_class_name: class(profile),
            ..ExactDeviceRequest::default()
        }),
        first_available: None,
    };
    let claim =
        claim_for("c", vec![request("a", "1g.5gb"), request("b", "3g.20gb"), request("c", "2g.10gb")]);
    let allocation = allocate(&cluster, &claim).unwrap();
    assert_eq!(devices(&allocation), ["gpu-0-mig-1g-5gb-6", "gpu-0-mig-3g-20gb-0", "gpu-0-mig-2g-10gb-4"]);
    let claim =
        claim_for("c", vec![request("a", "1g.5gb"), request("b", "4g.20gb"), request("c", "2g.10gb")]);
    assert_eq!(
        devices(&allocate(&cluster, &claim).unwrap()),
        ["gpu-0-mig-1g-5gb-6", "gpu-0-mig-4g-20gb-0", "gpu-0-mig-2g-10gb-4"]
    );
    // 1g must leave 6 for the double-memory 1g, when 3g and 2g cover the rest.
    let claim = claim_for(
        "c",
        vec![
            request("a", "1g.5gb"),
            request("b", "1g.5gb"),
            request("c", "1g.10gb"),
            request("d", "4g.20gb"),
        ],
    );
    assert_eq!(
        devices(&allocate(&cluster, &claim).unwrap()),
        ["gpu-0-mig-1g-5gb-5", "gpu-0-mig-1g-5gb-4", "gpu-0-mig-1g-10gb-6", "gpu-0-mig-4g-20gb-0"]
    );
}

#[test]
fn match_attribute_keeps_the_devices_on_one_gpu() {
    let mut cluster = cluster(&[("n", vec![a100_40(0), a100_40(1)])]);
    hold(&mut cluster, "big", "n", "gpu-0-mig-3g-20gb-4");
    let mut claim = claim("c", &class("2g.10gb"), 3);
    assert_eq!(devices(&allocate(&cluster, &claim).unwrap())[0], "gpu-0-mig-2g-10gb-2");
    claim.spec.devices.as_mut().unwrap().constraints = Some(vec![DeviceConstraint {
        match_attribute: Some(format!("{DRIVER}/parentUUID")),
        ..DeviceConstraint::default()
    }]);
    let devices = devices(&allocate(&cluster, &claim).unwrap());
    assert!(devices.iter().all(|d| d.starts_with("gpu-1-")), "{devices:?}");
}

#[test]
fn only_the_newest_generation_counts_and_only_when_complete() {
    let mut cluster = cluster(&[("n", vec![a100_40(0)])]);
    let newer = sluice_inventory::resource_slices(
        "n",
        DRIVER,
        &[a100_40(7)],
        sluice_inventory::SliceLayout::Split,
        2,
    );
    let newer = newer.unwrap();
    cluster.slices.push(newer[0].clone());
    let error = allocate(&cluster, &claim("c", &class("2g.10gb"), 1)).unwrap_err().to_string();
    assert!(
        error.contains("pool n/gpu is not counted (incomplete: 1 of 2 slices of generation 2)"),
        "{error}"
    );
    assert_eq!(free_slices(&cluster, &class("2g.10gb"), &[], 9).unwrap().free, 0);
    assert!(capacity_table(&cluster)[0].unusable.is_some());
    cluster.slices.push(newer[1].clone());
    let found = devices(&allocate(&cluster, &claim("c", &class("2g.10gb"), 1)).unwrap());
    assert_eq!(found, ["gpu-7-mig-2g-10gb-4"]);
}

#[test]
fn tainted_devices_go_only_to_claims_that_tolerate_them() {
    let mut cluster = cluster(&[("n", vec![a100_40(0)])]);
    for device in cluster.slices.iter_mut().flat_map(|s| s.spec.devices.iter_mut().flatten()) {
        let taint = DeviceTaint {
            key: "xid".to_owned(),
            value: Some("79".to_owned()),
            effect: "NoSchedule".to_owned(),
            time_added: None,
        };
        device.taints = Some(vec![taint]);
    }
    let mut claim = claim("c", &class("2g.10gb"), 1);
    assert!(matches!(allocate(&cluster, &claim), Err(AllocationError::NoFit { .. })));
    let exactly =
        claim.spec.devices.as_mut().unwrap().requests.as_mut().unwrap()[0].exactly.as_mut().unwrap();
    exactly.tolerations = Some(vec![DeviceToleration {
        key: Some("xid".to_owned()),
        operator: Some("Exists".to_owned()),
        ..DeviceToleration::default()
    }]);
    assert!(allocate(&cluster, &claim).is_ok());
}

#[test]
fn nothing_is_placed_on_an_unschedulable_node() {
    let mut cluster = cluster(&[("a", vec![a100_40(0)]), ("b", vec![a100_40(0)])]);
    cluster.unschedulable_nodes.insert("a".to_owned());
    let allocation = allocate(&cluster, &claim("c", &class("7g.40gb"), 1)).unwrap();
    assert_eq!(allocation.node.as_deref(), Some("b"));
    let free = free_slices(&cluster, &class("7g.40gb"), &[], 9).unwrap();
    assert_eq!(free.free, 1);
    assert!(free.reason.contains("pool a/gpu is not counted (node a is unschedulable)"), "{}", free.reason);
}

#[test]
fn a_claim_never_spans_two_nodes() {
    let cluster = cluster(&[("a", vec![a100_40(0)]), ("b", vec![a100_40(0)])]);
    assert!(allocate(&cluster, &claim("c", &class("7g.40gb"), 2)).is_err());
}

#[test]
fn what_is_not_evaluated_is_refused_in_words() {
    let cluster = cluster(&[("n", vec![a100_40(0)])]);
    let refusal = |change: &dyn Fn(&mut ExactDeviceRequest)| {
        let mut claim = claim("c", &class("2g.10gb"), 1);
        let requests = claim.spec.devices.as_mut().unwrap().requests.as_mut().unwrap();
        change(requests[0].exactly.as_mut().unwrap());
        allocate(&cluster, &claim).unwrap_err().to_string()
    };
    assert!(refusal(&|r| r.allocation_mode = Some("All".to_owned())).contains("allocationMode All"));
    assert!(refusal(&|r| r.admin_access = Some(true)).contains("adminAccess"));
    assert!(refusal(&|r| r.count = Some(-1)).contains("1..32"));
    assert!(refusal(&|r| r.count = Some(33)).contains("1..32"));
    assert!(refusal(&|r| r.device_class_name = "nope".to_owned()).contains("\"nope\", which does not exist"));
}

#[test]
fn claims_of_other_drivers_and_admin_access_take_nothing() {
    let mut cluster = cluster(&[("n", vec![a100_40(0)])]);
    hold(&mut cluster, "other", "n", "gpu-0-mig-7g-40gb-0");
    let result = |cluster: &mut sluice_inventory::Cluster,
                  change: &dyn Fn(&mut DeviceRequestAllocationResult)| {
        let allocation = cluster.claims[0].status.as_mut().unwrap().allocation.as_mut().unwrap();
        change(&mut allocation.devices.as_mut().unwrap().results.as_mut().unwrap()[0]);
        free_slices(cluster, &class("7g.40gb"), &[], 9).unwrap().free
    };
    assert_eq!(result(&mut cluster, &|_| {}), 0);
    assert_eq!(result(&mut cluster, &|r| r.driver = "gpu.example.com".to_owned()), 1);
    assert_eq!(result(&mut cluster, &|r| r.driver = DRIVER.to_owned()), 0);
    assert_eq!(result(&mut cluster, &|r| r.admin_access = Some(true)), 1);
}

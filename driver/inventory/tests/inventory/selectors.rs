use crate::fixtures::*;
use k8s_openapi::api::resource::v1::*;
use sluice_inventory::{AllocationError, allocate, free_slices};

/// Returns the first device that a claim with this selector gets from a free A100.
fn first(expression: &str) -> Result<String, AllocationError> {
    let mut cluster = cluster(&[("n", vec![a100_40(0)])]);
    cluster.device_classes.push(DeviceClass::default());
    cluster.device_classes.last_mut().unwrap().metadata.name = Some("everything".to_owned());
    let mut claim = claim("c", "everything", 1);
    let selector = DeviceSelector { cel: Some(CELDeviceSelector { expression: expression.to_owned() }) };
    let requests = claim.spec.devices.as_mut().unwrap().requests.as_mut().unwrap();
    requests[0].exactly.as_mut().unwrap().selectors = Some(vec![selector]);
    allocate(&cluster, &claim).map(|allocation| devices(&allocation).remove(0))
}

#[test]
fn selectors_read_attributes_capacities_versions_and_the_driver() {
    for (expression, want) in [
        ("true", "gpu-0-mig-1g-5gb-6"),
        (
            r#"device.driver == "gpu.sluice.dev" && device.attributes["gpu.sluice.dev"].profile == "2g.10gb""#,
            "gpu-0-mig-2g-10gb-4",
        ),
        (
            r#"device.attributes["gpu.sluice.dev"].placementStart == 0 && device.attributes["gpu.sluice.dev"].type == "mig""#,
            "gpu-0-mig-1g-5gb-0",
        ),
        (
            r#"device.capacity["gpu.sluice.dev"].memory.compareTo(quantity("15Gi")) > 0"#,
            "gpu-0-mig-3g-20gb-4",
        ),
        (
            r#"device.attributes["gpu.sluice.dev"].driverVersion.isGreaterThan(semver("570.0.0"))"#,
            "gpu-0-mig-1g-5gb-6",
        ),
        (r#"device.attributes["resource.kubernetes.io"].pciBusID == "0000:00:00.0""#, "gpu-0-mig-1g-5gb-6"),
        (r#"device.attributes["gpu.sluice.dev"].profile.startsWith("7g")"#, "gpu-0-mig-7g-40gb-0"),
        (r#"device.attributes["gpu.sluice.dev"].profile in ["4g.20gb"]"#, "gpu-0-mig-4g-20gb-0"),
        // An unknown domain is an empty map.
        (r#"!has(device.attributes["other.example.com"].x)"#, "gpu-0-mig-1g-5gb-6"),
        (
            r#"has(device.attributes["gpu.sluice.dev"].profile) && !device.allowMultipleAllocations"#,
            "gpu-0-mig-1g-5gb-6",
        ),
    ] {
        assert_eq!(first(expression).as_deref(), Ok(want), "{expression}");
    }
}

#[test]
fn a_selector_that_is_no_cel_is_refused_with_its_text() {
    let error = first("device.attributes[").unwrap_err().to_string();
    assert!(error.starts_with("request gpu: selector \"device.attributes[\" is not valid CEL"), "{error}");
}

#[test]
fn a_selector_that_fails_matches_nothing_and_is_reported() {
    let mut cluster = cluster(&[("n", vec![a100_40(0)])]);
    let class = &mut cluster.device_classes[0];
    let expression = r#"device.attributes["gpu.sluice.dev"].nonesuch == 1"#.to_owned();
    class.spec.selectors = Some(vec![DeviceSelector { cel: Some(CELDeviceSelector { expression }) }]);
    let free = free_slices(&cluster, "gpu.sluice.dev", &[], 3).unwrap();
    assert_eq!(free.free, 0);
    assert!(free.problems[0].contains("DeviceClass gpu.sluice.dev: selector"), "{:?}", free.problems);
    assert!(free.problems.len() <= 9, "problems are told, not listed by the hundred");
    let error = first("1 + 1").unwrap_err();
    assert!(matches!(error, AllocationError::NoFit { .. }), "a selector that is no bool matches nothing");
}

use super::*;

/// Returns a claim record in phase `Prepared` with a slice of one memory slice at `start`.
pub(crate) fn record(start: u8, started_at_ms: u64) -> ClaimRecord {
    ClaimRecord {
        namespace: "default".to_owned(),
        name: format!("claim-{start}"),
        phase: Phase::Prepared,
        started_at_ms,
        devices: vec![DeviceRecord {
            requests: vec!["gpu".to_owned()],
            device: format!("gpu-0-mig-1g-5gb-{start}"),
            gpu_uuid: "GPU-0".to_owned(),
            gpu_minor: 0,
            watches: None,
            sharing: Default::default(),
            profile: "1g.5gb".to_owned(),
            slice: Some(SliceRecord {
                profile_id: 19,
                placement: Placement { start, size: 1 },
                instance: Instance::Absent,
            }),
        }],
    }
}

fn begin(uid: &str, record: ClaimRecord) -> Change {
    Change::Begin { uid: uid.to_owned(), record }
}

#[test]
fn a_device_that_another_claim_holds_is_refused_by_name() {
    let mut checkpoint = Checkpoint::default();
    checkpoint.apply(begin("a", record(4, 0))).unwrap();
    checkpoint.apply(begin("b", record(5, 0))).unwrap();
    let held = checkpoint.apply(begin("c", record(4, 0))).unwrap_err();
    assert_eq!((held.uid.as_str(), held.name.as_str()), ("a", "claim-4"));
    let mut full = record(0, 0);
    full.devices[0].slice = None;
    assert!(checkpoint.apply(begin("d", full)).is_err());
    assert_eq!(checkpoint.claims.len(), 2);
}

#[test]
fn the_file_survives_fields_of_a_newer_driver() {
    let mut checkpoint = Checkpoint::default();
    checkpoint.apply(begin("a", record(4, 0))).unwrap();
    let mut json = serde_json::to_value(&checkpoint).unwrap();
    json["later"] = serde_json::json!({"x": 1});
    json["claims"]["a"]["later"] = serde_json::json!(true);
    json["claims"]["a"]["devices"][0]["slice"]["instance"]["later"] = serde_json::json!("y");
    assert_eq!(serde_json::from_value::<Checkpoint>(json).unwrap(), checkpoint);
}

#[test]
fn slice_time_grows_while_held_stays_when_ended_and_never_goes_back() {
    let mut checkpoint = Checkpoint::default();
    checkpoint.apply(begin("a", record(4, 10_000))).unwrap();
    let none = Default::default();
    let seconds = |checkpoint: &Checkpoint, now_ms| checkpoint.usage(now_ms, &none)["1g.5gb"].slice_seconds;
    assert_eq!(seconds(&checkpoint, 12_500), 2.5);
    assert_eq!(checkpoint.usage(12_500, &none)["1g.5gb"].in_use, 1);
    let gone = [("a".to_owned(), "gpu-0-mig-1g-5gb-4".to_owned())].into();
    assert_eq!(checkpoint.usage(12_500, &gone)["1g.5gb"].in_use, 0);
    checkpoint.apply(Change::End { uid: "a".to_owned(), at_ms: 13_000 }).unwrap();
    assert_eq!(seconds(&checkpoint, 20_000), 3.0);
    assert_eq!(checkpoint.usage(20_000, &none)["1g.5gb"].in_use, 0);
    // A clock that is set back does not decrease the time.
    checkpoint.apply(begin("b", record(4, 30_000))).unwrap();
    assert_eq!(seconds(&checkpoint, 25_000), 3.0);
}

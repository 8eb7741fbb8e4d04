//! Which instances fit beside each other, compared with the definition: intervals that do not overlap.

use nvidia_ml::Topology;
use nvidia_ml::geometry::{GpuProfile, Model, Placement};

use crate::client::Machine;

/// Returns all placements of all profiles of a model.
fn candidates(model: &'static Model) -> Vec<(&'static GpuProfile, Placement)> {
    let of_profile =
        |profile: &'static GpuProfile| profile.placements().into_iter().map(move |place| (profile, place));
    model.profiles.iter().flat_map(of_profile).collect()
}

/// Tries every ordered pair of placements on an empty GPU, and compares the result with the overlap of their
/// intervals.
fn pairs_conflict_where_they_overlap(model: &str) {
    let model = Model::find(model).unwrap();
    let machine = Machine::new(&Topology::uniform(model.name, 1).with_mig());
    let client = machine.client();
    let gpu = client.gpu(0);
    for (first, first_place) in candidates(model) {
        let instance = client.create(gpu, first.id, Some((first_place.start, first_place.size))).unwrap();
        for (second, second_place) in candidates(model) {
            let overlap = (first_place.start.max(second_place.start))
                < (first_place.start + first_place.size).min(second_place.start + second_place.size);
            let media = first.name.ends_with("+me") && second.name.ends_with("+me");
            let answer = client.create(gpu, second.id, Some((second_place.start, second_place.size)));
            match answer {
                Ok(other) => client.destroy(other).unwrap(),
                Err(code) => assert_eq!(code, 23),
            }
            assert_eq!(
                answer.is_err(),
                overlap || media,
                "{} at {first_place:?}, then {} at {second_place:?}",
                first.name,
                second.name
            );
        }
        client.destroy(instance).unwrap();
    }
}

#[test]
fn on_an_h100_exactly_overlapping_placements_conflict() {
    pairs_conflict_where_they_overlap("H100-80GB-HBM3");
}

#[test]
fn on_an_a100_exactly_overlapping_placements_conflict() {
    pairs_conflict_where_they_overlap("A100-SXM4-40GB");
}

#[test]
fn on_an_a30_exactly_overlapping_placements_conflict() {
    pairs_conflict_where_they_overlap("A30-24GB");
}

#[test]
fn the_remaining_capacity_is_what_can_still_be_made() {
    let model = Model::find("H100-80GB-HBM3").unwrap();
    let machine = Machine::h100();
    let client = machine.client();
    let gpu = client.gpu(0);
    for (held, place) in candidates(model) {
        let instance = client.create(gpu, held.id, Some((place.start, place.size))).unwrap();
        for profile in model.profiles {
            let promised = client.remaining(gpu, profile.id).unwrap();
            let made: Vec<_> = std::iter::from_fn(|| client.create(gpu, profile.id, None).ok()).collect();
            assert_eq!(promised as usize, made.len(), "{} beside {} at {place:?}", profile.name, held.name);
            made.into_iter().for_each(|instance| client.destroy(instance).unwrap());
        }
        client.destroy(instance).unwrap();
    }
}

//! Compute-instance profiles: how the compute slices of one GPU instance are divided.
//!
//! They follow from the profile of the GPU instance, so they are computed and not listed.

use super::{GpuProfile, Model, Placement};

/// Compute-instance profile inside a GPU-instance profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComputeProfile {
    /// Number `NVML_COMPUTE_INSTANCE_PROFILE_*`, which is also the id here.
    pub id: u32,
    /// Number of compute slices.
    pub slices: u32,
    /// Number of streaming multiprocessors.
    pub multiprocessors: u32,
    /// Name: `1c.3g.20gb`, or `3g.20gb` if it takes the whole GPU instance.
    pub name: String,
    /// Allowed placements, in the order in which creation without a placement tries them.
    pub placements: Vec<Placement>,
}

/// Id, compute slices, and alignment of the first slice.
const SHAPES: [(u32, u32, u32); 5] = [(0, 1, 1), (1, 2, 2), (2, 3, 4), (3, 4, 4), (4, 7, 7)];

impl ComputeProfile {
    /// Returns the profiles that fit into a GPU instance of `profile`, smallest first. The last one takes all of it.
    pub fn all(model: &Model, profile: &GpuProfile) -> Vec<ComputeProfile> {
        let whole = profile.compute_slices;
        let per_slice = model.profile_by_enumeration(0).map_or(0, |smallest| smallest.multiprocessors);
        SHAPES
            .into_iter()
            // Three of four slices are not offered, only halves and the whole.
            .filter(|&(_, slices, _)| slices <= whole && (whole, slices) != (4, 3))
            .map(|(id, slices, alignment)| ComputeProfile {
                id,
                slices,
                multiprocessors: if slices == whole { profile.multiprocessors } else { slices * per_slice },
                name: match slices == whole {
                    true => profile.name.to_owned(),
                    false => format!("{slices}c.{}", profile.name),
                },
                placements: (0..whole)
                    .step_by(alignment as usize)
                    .filter(|start| start + slices <= whole)
                    .map(|start| Placement { start, size: slices })
                    .collect(),
            })
            .collect()
    }

    /// Returns the profile with this id inside a GPU instance of `profile`.
    pub fn find(model: &Model, profile: &GpuProfile, id: u32) -> Option<ComputeProfile> {
        Self::all(model, profile).into_iter().find(|compute| compute.id == id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes(gpu_profile_id: u32) -> Vec<(u32, String, usize)> {
        let model = Model::find("A100-SXM4-40GB").unwrap();
        ComputeProfile::all(model, model.profile(gpu_profile_id).unwrap())
            .into_iter()
            .map(|compute| (compute.id, compute.name, compute.placements.len()))
            .collect()
    }

    #[test]
    fn the_whole_gpu_offers_seven_three_two_one_and_one() {
        let counts: Vec<_> = shapes(0).into_iter().map(|(id, _, count)| (id, count)).collect();
        assert_eq!(counts, [(0, 7), (1, 3), (2, 2), (3, 1), (4, 1)]);
    }

    #[test]
    fn half_a_gpu_offers_single_slices_a_pair_and_itself() {
        let expected = [(0, "1c.3g.20gb", 3), (1, "2c.3g.20gb", 1), (2, "3g.20gb", 1)];
        assert_eq!(shapes(9), expected.map(|(id, name, count)| (id, name.to_owned(), count)));
    }

    #[test]
    fn a_single_slice_offers_only_itself() {
        assert_eq!(shapes(19), [(0, "1g.5gb".to_owned(), 1)]);
    }
}

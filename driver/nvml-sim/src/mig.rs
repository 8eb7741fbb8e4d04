//! Rules of MIG: pure changes of one GPU's state, with NVML's return codes.

use crate::code::Code;
use crate::geometry::{ComputeProfile, GpuProfile, Model, Placement};
use crate::identity;
use crate::state::{ComputeInstance, GpuInstance, GpuState};

/// Incarnation of an instance: its id, and a generation that tells later instances with the same id apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Incarnation {
    pub(crate) id: u32,
    pub(crate) generation: u64,
}

impl GpuState {
    /// Returns the profile with this id; an error if MIG mode is off or the profile does not exist.
    pub(crate) fn enabled_profile(
        &self,
        model: &Model,
        profile_id: u32,
    ) -> Result<&'static GpuProfile, Code> {
        if !self.mig_enabled {
            return Err(Code::NOT_SUPPORTED);
        }
        model.profile(profile_id).ok_or(Code::INVALID_ARGUMENT)
    }

    /// Sets the MIG mode and returns the activation status: 0, or the reason why the mode is only pending.
    pub(crate) fn set_mig(&mut self, enabled: bool) -> u32 {
        self.mig_pending = enabled;
        if !enabled && !self.gpu_instances.is_empty() {
            return Code::IN_USE.0;
        }
        self.mig_enabled = enabled;
        0
    }

    /// Returns whether an instance of `profile` fits at `placement` now.
    fn is_free(&self, model: &Model, profile: &GpuProfile, placement: Placement) -> bool {
        let media_extensions_taken = || {
            let existing =
                self.gpu_instances.iter().filter_map(|instance| model.profile(instance.profile_id));
            existing.filter(|profile| profile.takes_media_extensions()).count() > 0
        };
        let of_profile =
            self.gpu_instances.iter().filter(|instance| instance.profile_id == profile.id).count();
        of_profile < profile.max_instances as usize
            && !(profile.takes_media_extensions() && media_extensions_taken())
            && !self.gpu_instances.iter().any(|instance| instance.placement().overlaps(placement))
    }

    /// Returns how many more instances of `profile` could be created now.
    pub(crate) fn remaining_capacity(&self, model: &Model, profile: &GpuProfile) -> u32 {
        let free =
            profile.default_order().filter(|placement| self.is_free(model, profile, *placement)).count()
                as u32;
        let existing =
            self.gpu_instances.iter().filter(|instance| instance.profile_id == profile.id).count() as u32;
        free.min(profile.max_instances.saturating_sub(existing))
    }

    /// Creates a GPU instance at `placement`, or at the first free placement in the driver's order.
    pub(crate) fn create_gpu_instance(
        &mut self,
        model: &Model,
        profile_id: u32,
        placement: Option<Placement>,
        generation: u64,
    ) -> Result<GpuInstance, Code> {
        let profile = self.enabled_profile(model, profile_id)?;
        if placement.is_some_and(|wanted| !profile.default_order().any(|allowed| allowed == wanted)) {
            return Err(Code::INVALID_ARGUMENT);
        }
        let placement = profile
            .default_order()
            .filter(|allowed| placement.is_none_or(|wanted| wanted == *allowed))
            .find(|allowed| self.is_free(model, profile, *allowed))
            .ok_or(Code::INSUFFICIENT_RESOURCES)?;
        let instance = GpuInstance {
            id: model.gpu_instance_id(placement),
            profile_id,
            start: placement.start,
            size: placement.size,
            generation,
            compute_instances: Vec::new(),
        };
        self.gpu_instances.push(instance.clone());
        self.gpu_instances.sort_by_key(|instance| instance.id);
        Ok(instance)
    }

    /// Destroys an empty GPU instance.
    pub(crate) fn destroy_gpu_instance(&mut self, instance: Incarnation) -> Result<(), Code> {
        if !self.gpu_instance(instance)?.compute_instances.is_empty() {
            return Err(Code::IN_USE);
        }
        self.gpu_instances.retain(|existing| existing.id != instance.id);
        Ok(())
    }

    /// Returns the GPU instance of exactly this incarnation.
    pub(crate) fn gpu_instance(&self, instance: Incarnation) -> Result<&GpuInstance, Code> {
        let is = |existing: &&GpuInstance| {
            existing.id == instance.id && existing.generation == instance.generation
        };
        self.gpu_instances.iter().find(is).ok_or(Code::INVALID_ARGUMENT)
    }

    /// Creates a compute instance in a GPU instance at `placement` (compute slices), or at the first free place. For
    /// `salt` see [`identity::mig_uuid`].
    pub(crate) fn create_compute_instance(
        &mut self,
        model: &Model,
        within: Incarnation,
        wanted: (u32, Option<Placement>),
        generation: u64,
        salt: Option<u128>,
    ) -> Result<ComputeInstance, Code> {
        let (profile_id, placement) = wanted;
        let parent = self.gpu_instance(within)?;
        let profile = parent.compute_profile(model, profile_id)?;
        if placement.is_some_and(|wanted| !profile.placements.contains(&wanted)) {
            return Err(Code::INVALID_ARGUMENT);
        }
        let free = profile.placements.iter().copied();
        let placement = free
            .filter(|allowed| placement.is_none_or(|wanted| wanted == *allowed))
            .find(|allowed| parent.is_free(*allowed))
            .ok_or(Code::INSUFFICIENT_RESOURCES)?;
        let is_used = |id: &u32| parent.compute_instances.iter().any(|existing| existing.id == *id);
        let id = (0..).find(|id| !is_used(id)).ok_or(Code::INSUFFICIENT_RESOURCES)?;
        let instance = ComputeInstance {
            id,
            profile_id,
            start: placement.start,
            size: placement.size,
            generation,
            uuid: identity::mig_uuid(&self.uuid, within.id, id, salt),
        };
        for parent in self.gpu_instances.iter_mut().filter(|existing| existing.id == within.id) {
            parent.compute_instances.push(instance.clone());
            parent.compute_instances.sort_by_key(|instance| instance.id);
        }
        Ok(instance)
    }

    /// Destroys a compute instance.
    pub(crate) fn destroy_compute_instance(
        &mut self,
        gpu_instance: u32,
        instance: Incarnation,
    ) -> Result<(), Code> {
        let is = |existing: &ComputeInstance| {
            existing.id == instance.id && existing.generation == instance.generation
        };
        let parent = self.gpu_instances.iter_mut().find(|existing| existing.id == gpu_instance);
        let siblings = &mut parent.ok_or(Code::INVALID_ARGUMENT)?.compute_instances;
        let at = siblings.iter().position(is).ok_or(Code::INVALID_ARGUMENT)?;
        siblings.remove(at);
        Ok(())
    }

    /// Iterates over the MIG devices in order of their index: one for each compute instance.
    pub(crate) fn mig_devices(&self) -> impl Iterator<Item = (&GpuInstance, &ComputeInstance)> {
        let instances = self.gpu_instances.iter();
        instances.flat_map(|parent| parent.compute_instances.iter().map(move |instance| (parent, instance)))
    }
}

impl GpuInstance {
    /// Returns the compute-instance profile with this id, if the GPU instance offers it.
    pub(crate) fn compute_profile(&self, model: &Model, profile_id: u32) -> Result<ComputeProfile, Code> {
        let profile = model.profile(self.profile_id).ok_or(Code::UNKNOWN)?;
        ComputeProfile::find(model, profile, profile_id).ok_or(Code::INVALID_ARGUMENT)
    }

    /// Returns whether no compute instance covers any of these compute slices.
    fn is_free(&self, placement: Placement) -> bool {
        !self.compute_instances.iter().any(|instance| instance.placement().overlaps(placement))
    }

    /// Returns how many more compute instances of `profile` could be created now.
    pub(crate) fn remaining_capacity(&self, profile: &ComputeProfile) -> u32 {
        profile.placements.iter().filter(|placement| self.is_free(**placement)).count() as u32
    }
}

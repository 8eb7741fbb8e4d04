//! Handles: what the library gives to its caller for a device or an instance.
//!
//! A handle is the address of a real block of memory, since some clients look at it, but this library never reads it back:
//! a registry says what an address stands for. A handle names one incarnation. When the same slot is taken by a newer
//! incarnation, the old handle is retired; its block is used again only after many others, so that a stale handle is
//! refused rather than taken for something else, and memory stays bounded.

use std::collections::{HashMap, VecDeque};

use crate::code::Code;
use crate::mig::Incarnation;

/// Retired blocks that wait before the oldest is used again.
const QUARANTINE: usize = 1024;

/// What a handle stands for. GPUs are told by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Object {
    Gpu(usize),
    /// A GPU instance.
    GpuInstance(usize, Incarnation),
    /// A compute instance in the GPU instance of that id.
    ComputeInstance(usize, u32, Incarnation),
    /// The MIG device of a compute instance in the GPU instance of that id.
    MigDevice(usize, u32, Incarnation),
    /// An event set, by number.
    EventSet(u64),
}

/// An object without its incarnation: what at most one live handle stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Slot {
    Gpu(usize),
    GpuInstance(usize, u32),
    ComputeInstance(usize, u32, u32),
    MigDevice(usize, u32, u32),
    EventSet(u64),
}

impl Object {
    fn slot(self) -> Slot {
        match self {
            Object::Gpu(gpu) => Slot::Gpu(gpu),
            Object::GpuInstance(gpu, instance) => Slot::GpuInstance(gpu, instance.id),
            Object::ComputeInstance(gpu, parent, instance) => Slot::ComputeInstance(gpu, parent, instance.id),
            Object::MigDevice(gpu, parent, instance) => Slot::MigDevice(gpu, parent, instance.id),
            Object::EventSet(number) => Slot::EventSet(number),
        }
    }
}

/// All handles of this process.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    by_slot: HashMap<Slot, (Object, usize)>,
    by_address: HashMap<usize, Object>,
    retired: VecDeque<usize>,
}

impl Handles {
    /// The handle of `object`: the same one for the same incarnation.
    pub(crate) fn of(&mut self, object: Object) -> usize {
        match self.by_slot.get(&object.slot()) {
            Some((known, address)) if *known == object => return *address,
            Some((_, address)) => self.retire(*address),
            None => {}
        }
        let address = match self.retired.len() > QUARANTINE {
            true => self.retired.pop_front(),
            false => None,
        };
        let address = address.unwrap_or_else(new_block);
        self.by_slot.insert(object.slot(), (object, address));
        self.by_address.insert(address, object);
        address
    }

    /// What `address` stands for.
    pub(crate) fn object(&self, address: usize) -> Result<Object, Code> {
        self.by_address.get(&address).copied().ok_or(Code::INVALID_ARGUMENT)
    }

    /// Forgets a handle.
    pub(crate) fn retire(&mut self, address: usize) {
        if let Some(object) = self.by_address.remove(&address) {
            self.by_slot.remove(&object.slot());
            self.retired.push_back(address);
        }
    }
}

/// The address of a new block that lives as long as the process.
fn new_block() -> usize {
    // "SLUICE\0\0", for whoever looks at the memory behind a handle.
    let block: &'static [u64; 8] = Box::leak(Box::new([0x0000_4543_4955_4C53; 8]));
    std::ptr::from_ref(block).expose_provenance()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_handle_of_an_older_incarnation_is_refused_and_memory_stays_bounded() {
        let mut handles = Handles::default();
        let instance = |generation| Object::GpuInstance(0, Incarnation { id: 7, generation });
        let first = handles.of(instance(1));
        assert_eq!(handles.of(instance(1)), first);
        let mut addresses = std::collections::HashSet::new();
        for generation in 2..5000 {
            addresses.insert(handles.of(instance(generation)));
        }
        assert!(addresses.len() <= QUARANTINE + 2, "{} blocks", addresses.len());
        let second = handles.of(instance(1000));
        assert_eq!(handles.object(second), Ok(instance(1000)));
        assert_eq!(handles.by_address.len(), 1);
    }
}

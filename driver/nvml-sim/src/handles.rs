//! Handles of devices and instances, which the library returns to its callers.
//!
//! A handle is the address of a real block of memory, because some clients read it. This library never reads it: a
//! registry maps addresses to objects. A handle stands for one incarnation of an object. When a newer incarnation
//! replaces it, the old handle is retired, and its block is reused only after many others. So a stale handle is
//! refused instead of being taken for another object, and memory stays bounded.

use std::collections::{HashMap, VecDeque};

use crate::code::Code;
use crate::mig::Incarnation;

/// Number of retired blocks that are kept before the oldest is reused.
const QUARANTINE: usize = 1024;

/// Object of a handle. GPUs are identified by index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Object {
    Gpu(usize),
    /// GPU instance.
    GpuInstance(usize, Incarnation),
    /// Compute instance in the GPU instance with that id.
    ComputeInstance(usize, u32, Incarnation),
    /// MIG device of a compute instance in the GPU instance with that id.
    MigDevice(usize, u32, Incarnation),
    /// Event set, by number.
    EventSet(u64),
}

/// Object without its incarnation. At most one valid handle exists for each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum HandleKey {
    Gpu(usize),
    GpuInstance(usize, u32),
    ComputeInstance(usize, u32, u32),
    MigDevice(usize, u32, u32),
    EventSet(u64),
}

impl Object {
    fn key(self) -> HandleKey {
        match self {
            Object::Gpu(gpu) => HandleKey::Gpu(gpu),
            Object::GpuInstance(gpu, instance) => HandleKey::GpuInstance(gpu, instance.id),
            Object::ComputeInstance(gpu, parent, instance) => {
                HandleKey::ComputeInstance(gpu, parent, instance.id)
            }
            Object::MigDevice(gpu, parent, instance) => HandleKey::MigDevice(gpu, parent, instance.id),
            Object::EventSet(number) => HandleKey::EventSet(number),
        }
    }
}

/// Handles of this process.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    by_key: HashMap<HandleKey, (Object, usize)>,
    by_address: HashMap<usize, Object>,
    retired: VecDeque<usize>,
}

impl Handles {
    /// Returns the handle of an object: always the same for one incarnation.
    pub(crate) fn of(&mut self, object: Object) -> usize {
        match self.by_key.get(&object.key()) {
            Some((known, address)) if *known == object => return *address,
            Some((_, address)) => self.retire(*address),
            None => {}
        }
        let address = match self.retired.len() > QUARANTINE {
            true => self.retired.pop_front(),
            false => None,
        };
        let address = address.unwrap_or_else(new_block);
        self.by_key.insert(object.key(), (object, address));
        self.by_address.insert(address, object);
        address
    }

    /// Returns the object of an address.
    pub(crate) fn object(&self, address: usize) -> Result<Object, Code> {
        self.by_address.get(&address).copied().ok_or(Code::INVALID_ARGUMENT)
    }

    /// Retires a handle.
    pub(crate) fn retire(&mut self, address: usize) {
        if let Some(object) = self.by_address.remove(&address) {
            self.by_key.remove(&object.key());
            self.retired.push_back(address);
        }
    }
}

/// Allocates a block that lives as long as the process, and returns its address.
fn new_block() -> usize {
    // "SLUICE\0\0", for a reader of the memory behind a handle.
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

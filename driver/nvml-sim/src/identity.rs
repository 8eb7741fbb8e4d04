//! UUIDs of GPUs and MIG devices, derived from other names.
//!
//! The real library hashes hardware identity (SHA-1, in the form of a version 5 UUID), so the same slice of the same
//! GPU has the same UUID whenever it is created again. Clients must not take such a UUID for an incarnation.

use uuid::Uuid;

/// Namespace of all UUIDs that this library derives.
const NAMESPACE: Uuid = Uuid::from_u128(0x7c1f_5a0e_93d4_5b6e_a1c2_5f0e_4d9b_2a17);

/// Returns the UUID of GPU number `index` if the topology gives none.
pub(crate) fn gpu_uuid(model: &str, index: usize) -> String {
    let uuid = Uuid::new_v5(&NAMESPACE, format!("gpu/{model}/{index}").as_bytes());
    format!("GPU-{uuid}")
}

/// Returns the UUID of the MIG device of a compute instance. `salt` is a new number in `random` mode and `None` in
/// `deterministic` mode.
pub(crate) fn mig_uuid(
    gpu_uuid: &str,
    gpu_instance: u32,
    compute_instance: u32,
    salt: Option<u128>,
) -> String {
    let salt = salt.map(|salt| format!("/{salt:x}")).unwrap_or_default();
    let name = format!("mig/{gpu_uuid}/{gpu_instance}/{compute_instance}{salt}");
    format!("MIG-{}", Uuid::new_v5(&NAMESPACE, name.as_bytes()))
}

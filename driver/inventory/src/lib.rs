//! Inventory of accelerators: which GPUs there are, how they can be partitioned, which claim holds what, and what is
//! free, exactly as the Kubernetes scheduler would find it. Pure: no I/O, no clock, no runtime; plain data in, plain
//! data out.
//!
//! Two kinds of programs use it. The driver turns what NVML reports into ResourceSlices. The autoscaler and the
//! preloader read ResourceSlices and ResourceClaims and ask what still fits.
//!
//! ```text
//!  NVML ──▶ gpu, geometry ──▶ names, order ──▶ publish ──▶ ResourceSlice, DeviceClass
//!                                  └─▶ index: device name ──▶ which placement to create (prepare)
//!
//!  ResourceSlice, ResourceClaim, DeviceClass ──▶ cluster ──▶ pools ──▶ counters ─┐
//!                                                selector (CEL), taints ─────────┼▶ allocate ──▶ AllocationResult
//!                                                                                └▶ free, capacity ──▶ numbers and reasons
//! ```
//!
//! "Free" is never memory divided by a size. It is the number of claims that the scheduler's first fit would place
//! one after another. A 1g instance at memory slice 2 leaves enough memory for a 2g instance but no placement for it,
//! and this crate reports that.
mod allocate;
mod capacity;
mod check;
mod cluster;
mod describe;
mod device;
mod error;
mod free;
mod geometry;
mod gpu;
mod index;
mod layout;
mod ledger;
mod limits;
pub mod node_selector;
mod order;
mod pack;
mod pools;
mod publish;
pub mod quantity;
mod reader;
mod reason;
mod request;
pub mod scheduler;
mod search;
mod selector;
mod taints;
mod view;

pub use allocate::{Allocation, allocate};
pub use capacity::{Holder, PoolCapacity, ProfileCapacity, capacity_table};
pub use cluster::Cluster;
pub use device::{DeviceEntry, DeviceKind};
pub use error::{AllocationError, PublishError};
pub use free::{FreeSlices, Promised, free_slices, free_slices_seen_from};
pub use geometry::{MigProfile, Placement};
pub use gpu::{ComputeCapability, Gpu};
pub use index::DeviceIndex;
pub use layout::SliceLayout;
pub use pools::nodes_named;
pub use publish::{device_classes, device_classes_of_profiles, resource_slices};

//! sluice-driver: a DRA kubelet plugin that cuts GPUs into MIG slices on demand.
//!
//! ```text
//!  kubelet ──registration, DRA v1──▶ plugin ──▶ claims ──▶ device_state ──▶ gpus (trait) ──▶ nvml
//!                                                 │          ├──▶ checkpoint: its thread ──▶ file
//!  API server / directory ◀── store (trait) ◀─────┤          └──▶ cdi
//!            ▲                                    └─ reconcile: claims that are gone
//!            ├── publishing: ResourceSlices ◀── monitor ◀── health: what was seen of the GPUs
//!            └── events                           xids: NVML's event thread ──▶ metrics, monitor
//! ```
//!
//! | module | what it does | owns |
//! |---|---|---|
//! | [`gpus`], [`nvml`] | what GPUs can do, and NVML doing it | the NVML session, replaced when NVIDIA's driver is |
//! | [`checkpoint`] | what must survive a kill, and in which order it is written | the checkpoint (one thread) |
//! | [`slices`] | prepare, unprepare, recovery; what is ours and what is foreign | locks, one a GPU |
//! | [`allocation`], [`device_config`] | from an allocated claim to devices; what a claim may configure; pure | – |
//! | [`claims`] | one call of the kubelet; claims that are gone | claims in progress |
//! | [`health`], [`monitor`] | what may be offered of the GPUs that were seen (pure); looking again and again | the inventory |
//! | [`monitoring`] | devices for whoever watches GPUs | – |
//! | [`store`], [`publishing`] | objects; ResourceSlices that come back when wiped | the pool's generation |
//! | [`cdi`] | files for container runtimes | – |
//! | [`plugin`] | the two gRPC services and their sockets | the sockets |
//! | [`neighbours`] | others that hand out the node's GPUs | – |
//! | [`xids`], [`measure`] | critical errors; metrics | – |
//! | [`settings`], [`run`] | what can be set; wiring | – |

mod allocation;
mod cdi;
mod checkpoint;
mod claims;
mod device_config;
mod device_state;
mod gpus;
mod health;
mod metrics;
mod monitor;
pub mod monitoring;
mod neighbours;
mod nvml;
mod plugin;
mod publishing;
pub mod run;
pub mod settings;
mod sharing;
mod store;
mod xids;

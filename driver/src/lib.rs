//! sluice-driver: a DRA kubelet plugin that cuts GPUs into MIG slices on demand.
//!
//! ```text
//!  kubelet ──registration, DRA v1──▶ plugin ──▶ claims ──▶ slices ──▶ gpus (trait) ──▶ nvml
//!                                                 │          ├──▶ checkpoint: ledger thread ──▶ file
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

pub mod allocation;
pub mod cdi;
pub mod checkpoint;
pub mod claims;
pub mod device_config;
pub mod gpus;
pub mod health;
pub mod measure;
pub mod monitor;
pub mod monitoring;
pub mod neighbours;
pub mod nvml;
pub mod plugin;
pub mod publishing;
pub mod run;
pub mod settings;
pub mod slices;
pub mod store;
pub mod xids;

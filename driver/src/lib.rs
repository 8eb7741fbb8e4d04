//! sluice-driver: DRA kubelet plugin that partitions GPUs into MIG slices on demand.
//!
//! ```text
//!  kubelet ──registration, DRA v1──▶ plugin ──▶ claims ──▶ device_state ──▶ gpus (trait) ──▶ nvml
//!                                                 │          ├──▶ checkpoint: its thread ──▶ file
//!  API server / directory ◀── store (trait) ◀─────┤          └──▶ cdi
//!            ▲                                    └─ reconcile: claims that are gone
//!            ├── publishing: ResourceSlices ◀── monitor ◀── health: observations of the GPUs
//!            └── events                           xids: NVML's event thread ──▶ metrics, monitor
//! ```
//!
//! | module | what it does | owns |
//! |---|---|---|
//! | `gpus`, `nvml` | operations on GPUs as a trait; NVML behind it | the NVML session, replaced when NVIDIA's driver is |
//! | `checkpoint` | what must survive a crash, and in which order it is written | the checkpoint (one thread) |
//! | `device_state` | prepare, unprepare, recovery; own and foreign MIG instances | one lock per GPU |
//! | `sharing` | how the containers of claims use one device | – |
//! | `allocation`, `device_config` | devices of an allocated claim; what a claim may configure (pure) | – |
//! | `claims` | operations of the kubelet; release of claims that are gone | claims in progress |
//! | `health`, `monitor` | what may be offered of the observed GPUs (pure); periodic checks | the known GPUs |
//! | [`monitoring`] | devices for programs that monitor GPUs | – |
//! | `store`, `publishing` | Kubernetes objects; ResourceSlices that are restored when deleted | the pool's generation |
//! | `cdi` | files for container runtimes | – |
//! | `plugin` | the two gRPC services and their sockets | the sockets |
//! | `neighbours` | other programs that allocate the node's GPUs | – |
//! | `xids`, `metrics` | critical errors; metrics | – |
//! | [`settings`], [`run`] | settings; wiring | – |

#![allow(missing_docs)] // A program: only its own modules and tests read most of it.

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

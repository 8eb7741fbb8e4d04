//! What two components of Sluice must agree on, and nothing else: names, metric names, the way settings
//! are read, the API types, and the part of a process that is alike in every program.
//!
//! | module | feature | what it holds |
//! |---|---|---|
//! | [`names`] | – | driver name, API group, sockets, environment variables of a prepared device |
//! | [`metric_names`] | – | every metric that one component writes and another reads |
//! | [`settings`] | – | file, environment and flags with one precedence; strict, with suggestions |
//! | [`atomic_file`] | – | files that are replaced whole, or not at all |
//! | [`api`] | `crd` | `InferenceAutoscaler` and `LocalDeployment`, read strictly from YAML |
//! | [`objects`] | `objects` | Kubernetes objects in a directory: one machine's stand-in for the API server |
//! | [`process`] | `process` | logs, signals, metrics and the admin port |
//! | [`process::lease`] | `lease` | which of several replicas acts |
//!
//! The default features are empty, so that the sidecar has no Kubernetes code in its tree.

#![forbid(unsafe_code)]

#[cfg(feature = "crd")]
pub mod api;
pub mod atomic_file;
pub mod metric_names;
pub mod names;
#[cfg(feature = "objects")]
pub mod objects;
pub mod printable;
#[cfg(feature = "process")]
pub mod process;
pub mod settings;

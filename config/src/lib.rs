//! What two components of Sluice must agree on, and nothing else: names, metric names, API types, and the objects
//! that stand in for an API server on one machine.
//!
//! | module | feature | content |
//! |---|---|---|
//! | [`names`] | – | driver name, API group, sockets, environment variables of a prepared device |
//! | [`metric_names`] | – | every metric that one component writes and another reads |
//! | [`api`] | `crd` | `InferenceAutoscaler` and `LocalDeployment`, read strictly from YAML |
//! | [`objects`] | `objects` | Kubernetes objects in a directory: one machine's stand-in for the API server |
//!
//! The default features are empty, so that the sidecar has no Kubernetes code in its tree. How a program starts,
//! reads settings, logs, listens, leads and stops is the crate `sluice-process` beside this one.

#![forbid(unsafe_code)]

#[cfg(feature = "crd")]
pub mod api;
pub mod metric_names;
pub mod names;
#[cfg(feature = "objects")]
pub mod objects;

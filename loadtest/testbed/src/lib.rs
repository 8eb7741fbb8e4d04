//! A real Kubernetes on one machine, to try Sluice and to test it.
//!
//! One cluster is one folder (`workdir`) and one process tree in its own mount, network and process
//! namespaces (`host::namespaces`): nothing that runs there reaches another machine, and killing the tree's
//! first process ends all of it.
//!
//! | to change | look in |
//! |---|---|
//! | a command, a flag | `cli`, `run` |
//! | which Kubernetes releases are supported, and how their command lines differ | `release` |
//! | versions of Kubernetes, etcd, containerd …; where their programs come from, how they are built | `programs` |
//! | what a cluster uses on the machine (namespaces, mounts, bridges), what the machine must have, what is removed | `host` |
//! | which processes a node runs: command lines, certificates, restarts; its simulated GPUs; reboots | `node` |
//! | container images | `images` |
//! | what is installed into the running cluster: DNS, simulated nodes, Prometheus, Sluice itself | `contents` |
//! | the order in which all of this comes up and goes down | `commands` |
//! | how tests talk to the cluster; load on it and cuts in its network | `cluster`, `traffic` |
//! | what is tested | `scenarios` |
//! | how scenarios are run, retried and reported; evidence of failures | `harness` |
//! | what is measured | `benchmarks` |

#![allow(missing_docs)]

mod addresses;
mod benchmarks;
pub mod cli;
mod cluster;
mod commands;
mod contents;
mod harness;
mod host;
mod images;
mod node;
mod processes;
mod programs;
mod release;
mod run;
mod scenarios;
mod traffic;
mod workdir;

pub use run::run;

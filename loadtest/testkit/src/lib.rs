//! What the tests of several programs share. Only a dev-dependency; no program is built with it.
//!
//! | module | what it holds |
//! |---|---|
//! | [`api_server`] | a Kubernetes API server in memory, behind kube's own client |
//! | [`gpus`] | GPUs as the driver discovers them |

#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used)] // A test that cannot go on ends here.

pub mod api_server;
pub mod gpus;

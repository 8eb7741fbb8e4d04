//! The local platform against a DRA plugin, a gateway and model servers that are simulated in this folder. The plugin
//! speaks the kubelet's protocols over real sockets; model servers are real processes.

#![allow(clippy::unwrap_used, reason = "what a helper of tests cannot do fails the test")]

mod adoption;
mod gateway;
mod journal;
mod lifecycle;
mod model;
mod plugin;
mod program;
mod rig;
mod terminal;

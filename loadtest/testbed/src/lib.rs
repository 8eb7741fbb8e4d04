//! A real Kubernetes on one machine, to try Sluice and to test it.
//!
//! One cluster is one folder ([`workdir`]) and one process tree in its own mount, network and process
//! namespaces ([`namespaces`]): nothing that runs there reaches another machine, and killing the tree's first
//! process ends all of it.
//!
//! | module | what it knows |
//! |---|---|
//! | [`release`] | which Kubernetes releases there are, and what each needs to be told |
//! | [`parts`], [`binaries`], [`building`] | which programs a node is made of, where they come from, how they are built |
//! | [`requirements`] | what the machine must have |
//! | [`workdir`], [`leftovers`] | what a cluster has on the machine, and how all of it goes away |
//! | [`namespaces`], [`mounts`], [`network`], [`pki`] | the place in which the cluster lives |
//! | [`components`], [`supervisor`], [`control`], [`node`] | its processes: command lines, restarts, orders from outside |
//! | [`images`], [`dns`], [`fake_nodes`], [`prometheus`], [`discovery`], [`simulated`], [`install`] | what is put into it |
//! | [`up`], [`down`], [`reboot`] | the commands that change all of it |
//! | [`cluster`], [`harness`], [`scenarios`] | tests that run inside |
//! | [`figures`] | what is measured there |

pub mod addresses;
pub mod binaries;
pub mod building;
pub mod cli;
pub mod cluster;
pub mod components;
pub mod control;
pub mod discovery;
pub mod dns;
pub mod down;
pub mod fake_nodes;
pub mod figures;
pub mod harness;
pub mod images;
pub mod install;
pub mod leftovers;
pub mod model_server;
pub mod mounts;
pub mod namespaces;
pub mod network;
pub mod node;
pub mod parts;
pub mod pki;
pub mod processes;
pub mod prometheus;
pub mod reboot;
pub mod release;
pub mod requirements;
pub mod scenarios;
pub mod simulated;
pub mod supervisor;
pub mod up;
pub mod workdir;

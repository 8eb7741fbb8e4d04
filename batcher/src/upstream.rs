//! Model servers: their membership, whether they are warm, and connections to them.
//!
//! One *monitor* task per model server owns its state machine ([`epoch`]); all other tasks read the few atomics of
//! [`Upstream`] (`server`). A client's request reaches a model server only with an [`InFlight`] guard, which is given
//! out only while the barrier of that epoch is open, and over a connection that was verified to belong to that epoch.

pub mod asking;
pub mod choice;
pub mod connection;
pub mod control;
pub mod discovery;
pub mod endpoint;
pub mod epoch;
pub mod hang_up;
pub mod listener;
pub mod members;
pub mod model_config;
pub mod models;
pub mod monitor;
pub mod probe;
pub mod recorded;
pub mod relay;
pub mod relay_body;
mod relay_grpc;
mod server;
pub mod signature;
pub mod slot;
pub mod warm_body;
pub mod warm_model;
pub mod warmup;
mod whereabouts;

pub use server::{CONNECT_PATIENCE, ConnectError, Epoch, InFlight, Report, Upstream};

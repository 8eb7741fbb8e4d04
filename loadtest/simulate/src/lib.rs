//! Simulates batchers in virtual time: the engine that the batcher itself runs ([`sluice_batch_policy::Engine`]), with
//! simulated arrivals and model servers around it. A run is a pure function of its input and a seed; an hour of traffic
//! takes seconds.
//!
//! ```
//! use sluice_simulate::{ModelSpec, ServerSpec, Simulation, Source};
//!
//! let mut simulation = Simulation::new(7);
//! let model = simulation.add_model(ModelSpec::new(0.020, 0.001, 64, 300_000));
//! simulation.add_server(ServerSpec::default(), 0);
//! let source = simulation.add_source(Source::poisson(model, 400.0));
//! simulation.run_until(10_000_000);
//! assert!(simulation.outcome(source).attainment() > 0.99);
//! ```
//!
//! Models, servers and sources may be added, and servers removed, between two calls of [`Simulation::run_until`]: that is
//! how a simulated autoscaler acts.
//!
//! | to change … | look in |
//! |---|---|
//! | what happens in which order | `simulation` |
//! | who sends what, and when | `source` |
//! | models, what they take in, and how long a batch takes | `model` |
//! | model servers | `server` |
//! | slots that models share, and rules to compare them with | `pool` |
//! | what is counted | `outcome` |

mod heap;
mod model;
mod outcome;
mod pool;
mod request;
mod server;
mod simulation;
mod source;

pub use model::{ModelId, ModelSpec};
pub use outcome::{Answer, Outcome};
pub use pool::Sharing;
pub use server::{ServerId, ServerSpec};
pub use simulation::Simulation;
pub use source::{Source, SourceId};

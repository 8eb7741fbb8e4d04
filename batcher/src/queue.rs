//! The queue of one model: requests wait in a bounded ring, one owner task cuts batches for free slots, a task
//! per batch speaks to the model server and shares the answer out.
//!
//! ```text
//!  front ──Entry──▶ [ring: full = 429] ──▶ owner (pending by merge key) ──batch + slot──▶ dispatch ──▶ upstream
//!    ▲                                        ▲  slots, finished batches, scrapes             │
//!    └───────────── Reply (oneshot) ──────────┴───────────────────────────────────────────────┘
//! ```

mod adapters;
pub mod bytes;
mod call;
pub mod caller;
pub mod dispatch;
pub mod entry;
pub mod explain;
mod gauges;
pub mod handle;
mod mailbox;
mod merging;
mod message;
mod occupancy;
pub mod owner;
mod primitives;
mod published;
mod recording;
mod reply_to;
pub mod samples;
pub mod scope;
pub mod sequence;
mod size;
pub mod tenants;

pub use entry::{Entry, Reply, Work};
pub use handle::ModelHandle;
pub use message::{Message, QueueEvent};
pub use size::size_of;

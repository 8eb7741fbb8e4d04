//! The protocol at its boundary: clients' bytes in, responses' bytes out.

#![allow(
    clippy::unwrap_used,
    reason = "these are tests; clippy allows it only in the test functions themselves"
)]

mod answers;
mod client;
mod echo;
mod hostile;
mod identity;
mod merging;
mod parsing;
mod unchanged;
mod v1;

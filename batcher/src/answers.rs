//! Answers that clients have not taken yet: how much memory they hold, which connection each belongs to, and which are
//! given up when they hold too much memory, or hold it for too long.
//!
//! | module | what is there |
//! |---|---|
//! | [`budget`] | counts the bytes of all answers together |
//! | [`untaken`] | tracks each answer under way, and how much of it its client has taken |
//! | [`piece`] | the pieces of an answer that the HTTP library holds |
//! | [`relief`] | gives up answers that their clients do not take |
//! | [`stream_task`] | the task of an HTTP/2 stream, which can be ended alone |

pub mod budget;
pub mod piece;
pub mod relief;
pub mod stream_task;
pub mod untaken;

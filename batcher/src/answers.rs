//! Answers until their clients have taken them: how much memory they hold, whose they are, and which are given up
//! where they hold too much, or for too long.
//!
//! | module | what is there |
//! |---|---|
//! | [`budget`] | bytes of all answers together |
//! | [`untaken`] | each answer under way, and how far its client has come |
//! | [`piece`] | what of an answer is in the hands of the HTTP library |
//! | [`relief`] | gives up answers that nobody takes |
//! | [`stream_task`] | the task of an HTTP/2 stream, which can be ended alone |

pub mod budget;
pub mod piece;
pub mod relief;
pub mod stream_task;
pub mod untaken;

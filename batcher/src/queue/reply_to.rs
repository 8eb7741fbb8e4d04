//! Where the answer to a request goes. A request whose call takes far too long runs a second time elsewhere; both
//! copies answer here, and the client gets the first good answer.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::oneshot;

use super::Reply;

/// The way back to a client, for the only copy of its request or for one of several. When all copies are dropped
/// without a reply, the client's task is told.
#[derive(Debug)]
pub struct ReplyTo(Way);

#[derive(Debug)]
enum Way {
    Only(oneshot::Sender<Reply>),
    /// Empty once one of the copies has answered.
    Shared(Arc<Mutex<Option<oneshot::Sender<Reply>>>>),
}

impl From<oneshot::Sender<Reply>> for ReplyTo {
    fn from(sender: oneshot::Sender<Reply>) -> Self {
        Self(Way::Only(sender))
    }
}

impl ReplyTo {
    /// The same way for another copy of the request.
    pub fn share(self) -> (Self, Self) {
        let shared = match self.0 {
            Way::Only(sender) => Arc::new(Mutex::new(Some(sender))),
            Way::Shared(shared) => shared,
        };
        (Self(Way::Shared(Arc::clone(&shared))), Self(Way::Shared(shared)))
    }

    /// Whether there are other copies.
    pub fn is_shared(&self) -> bool {
        matches!(&self.0, Way::Shared(shared) if Arc::strong_count(shared) > 1)
    }

    /// Whether nobody waits for an answer (any more).
    pub fn is_closed(&self) -> bool {
        match &self.0 {
            Way::Only(sender) => sender.is_closed(),
            Way::Shared(shared) => {
                let sender = shared.lock().unwrap_or_else(PoisonError::into_inner);
                sender.as_ref().is_none_or(oneshot::Sender::is_closed)
            }
        }
    }

    /// Answers, unless another copy has. A client that has gone meanwhile gets nothing.
    pub fn send(self, reply: Reply) {
        let sender = match self.0 {
            Way::Only(sender) => Some(sender),
            Way::Shared(shared) => shared.lock().unwrap_or_else(PoisonError::into_inner).take(),
        };
        if let Some(sender) = sender {
            let _ = sender.send(reply);
        }
    }

    /// Answers where no other copy is left that could.
    pub fn send_if_last(self, reply: Reply) {
        let sender = match self.0 {
            Way::Only(sender) => Some(sender),
            // Of the last two copies exactly one gets the value.
            Way::Shared(shared) => Arc::into_inner(shared)
                .and_then(|sender| sender.into_inner().unwrap_or_else(PoisonError::into_inner)),
        };
        if let Some(sender) = sender {
            let _ = sender.send(reply);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Failure;

    fn failed(status: u16) -> Reply {
        Reply::Failed(Failure::new(status, "?"))
    }

    fn status(waiting: &mut oneshot::Receiver<Reply>) -> Option<u16> {
        match waiting.try_recv() {
            Ok(Reply::Failed(failure)) => Some(failure.status),
            _ => None,
        }
    }

    #[test]
    fn the_first_answer_counts_and_a_copy_that_gives_up_leaves_it_to_the_others() {
        let (sender, mut waiting) = oneshot::channel();
        let (one, other) = ReplyTo::from(sender).share();
        let (other, third) = other.share();
        one.send_if_last(failed(1));
        assert_eq!(status(&mut waiting), None);
        assert!(!other.is_closed());
        third.send(failed(3));
        assert!(other.is_closed(), "it has been answered");
        other.send(failed(2));
        assert_eq!(status(&mut waiting), Some(3));
    }

    #[test]
    fn the_last_copy_answers_whatever_it_has() {
        let (sender, mut waiting) = oneshot::channel();
        let (one, other) = ReplyTo::from(sender).share();
        drop(one);
        other.send_if_last(failed(2));
        assert_eq!(status(&mut waiting), Some(2));
        let (sender, waiting) = oneshot::channel();
        let (one, other) = ReplyTo::from(sender).share();
        drop(waiting);
        assert!(one.is_closed() && other.is_closed());
    }
}

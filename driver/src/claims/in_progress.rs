//! Claims with an operation in progress, and waiting for its end. The map is used by synchronous code on many threads
//! and never locked across an await.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio_util::sync::CancellationToken;

/// Error: an earlier operation on the claim has not ended.
#[derive(Debug, Clone, thiserror::Error)]
#[error("an earlier {operation} of this claim goes on; try again")]
pub(crate) struct Busy {
    /// Name of that operation.
    pub operation: &'static str,
    /// Cancelled when it ends.
    ended: CancellationToken,
}

/// Operation on one claim.
#[derive(Debug)]
struct Work {
    operation: &'static str,
    ended: CancellationToken,
}

/// Claims with an operation in progress, by UID. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct InProgress(Arc<DashMap<String, Work>>);

/// Guard that marks a claim until it is dropped.
#[derive(Debug)]
pub(crate) struct InProgressGuard {
    uid: String,
    claims: InProgress,
}

impl InProgress {
    /// Marks a claim.
    ///
    /// # Errors
    /// Returns [`Busy`] while another guard of the same claim exists.
    pub(crate) fn begin(&self, uid: &str, operation: &'static str) -> Result<InProgressGuard, Busy> {
        match self.0.entry(uid.to_owned()) {
            Entry::Occupied(entry) => {
                Err(Busy { operation: entry.get().operation, ended: entry.get().ended.clone() })
            }
            Entry::Vacant(entry) => {
                entry.insert(Work { operation, ended: CancellationToken::new() });
                Ok(InProgressGuard { uid: uid.to_owned(), claims: self.clone() })
            }
        }
    }

    /// Marks a claim as soon as no other operation on it is in progress, after `patience` at the latest.
    ///
    /// # Errors
    /// Returns [`Busy`] if the other operation has not ended by then.
    pub(crate) async fn join(
        &self,
        uid: &str,
        operation: &'static str,
        patience: Duration,
    ) -> Result<InProgressGuard, Busy> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let busy = match self.begin(uid, operation) {
                Ok(mark) => return Ok(mark),
                Err(busy) => busy,
            };
            tracing::info!(
                uid,
                operation,
                other = busy.operation,
                "Waiting for another operation on the claim."
            );
            if tokio::time::timeout_at(deadline, busy.ended.cancelled()).await.is_err() {
                return Err(busy);
            }
        }
    }
}

impl Drop for InProgressGuard {
    fn drop(&mut self) {
        if let Some((_, work)) = self.claims.0.remove(&self.uid) {
            work.ended.cancel();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_claim_is_worked_on_once_at_a_time_and_others_beside_it() {
        let claims = InProgress::default();
        let mark = claims.begin("a", "prepare").unwrap();
        assert_eq!(claims.begin("a", "unprepare").unwrap_err().operation, "prepare");
        claims.begin("b", "prepare").unwrap();
        let late = claims.join("a", "unprepare", Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(late.operation, "prepare");
        drop(mark);
        claims.begin("a", "unprepare").unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn everybody_who_waits_gets_his_turn() {
        let claims = InProgress::default();
        let mark = claims.begin("a", "prepare").unwrap();
        let wait = || claims.join("a", "prepare", Duration::from_secs(40));
        let (first, second, ()) =
            tokio::join!(async { wait().await.map(drop) }, async { wait().await.map(drop) }, async {
                drop(mark)
            },);
        first.unwrap();
        second.unwrap();
    }
}

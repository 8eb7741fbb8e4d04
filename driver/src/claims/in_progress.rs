//! Which claims are being worked on. Read and written by synchronous code on many threads at once, and
//! never held over an await.

use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;

/// An earlier call for the claim has not ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("an earlier {operation} of this claim goes on; try again")]
pub struct Busy {
    /// What goes on.
    pub operation: &'static str,
}

/// Claims by UID. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct InProgress(Arc<DashMap<String, &'static str>>);

/// Keeps a claim marked until it is dropped.
#[derive(Debug)]
pub struct Mark {
    uid: String,
    claims: InProgress,
}

impl InProgress {
    /// Marks a claim.
    ///
    /// # Errors
    /// [`Busy`] while another mark of the same claim lives.
    pub fn begin(&self, uid: &str, operation: &'static str) -> Result<Mark, Busy> {
        match self.0.entry(uid.to_owned()) {
            Entry::Occupied(entry) => Err(Busy { operation: entry.get() }),
            Entry::Vacant(entry) => {
                entry.insert(operation);
                Ok(Mark { uid: uid.to_owned(), claims: self.clone() })
            }
        }
    }
}

impl Drop for Mark {
    fn drop(&mut self) {
        self.claims.0.remove(&self.uid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_claim_is_worked_on_once_at_a_time_and_others_beside_it() {
        let claims = InProgress::default();
        let mark = claims.begin("a", "prepare").unwrap();
        assert_eq!(claims.begin("a", "unprepare").unwrap_err(), Busy { operation: "prepare" });
        claims.begin("b", "prepare").unwrap();
        drop(mark);
        claims.begin("a", "unprepare").unwrap();
    }
}

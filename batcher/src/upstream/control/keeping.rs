//! Learns whether a model server keeps connections open between questions, or closes each after one answer, as HTTP/1.0
//! does.

/// Number of connections in a row that must end with their first answer until that counts as the server's habit. A
/// single one may be due to a server that stops.
const HABIT: u32 = 2;

/// Counts of a server's connections, which are opened one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Keeping {
    /// Answers over the current connection.
    answers: u32,
    /// Connections in a row that ended with their first answer.
    short: u32,
}

impl Keeping {
    /// Notes an answer. `is_last`: whether the connection ends with it.
    pub(super) fn answered(&mut self, is_last: bool) {
        self.answers += 1;
        if is_last {
            self.ended();
        } else if self.answers > 1 {
            self.short = 0;
        }
    }

    /// Notes that a new connection was opened.
    pub(super) fn opened(&mut self) {
        self.answers = 0;
    }

    /// Notes that the connection has ended.
    pub(super) fn ended(&mut self) {
        self.short = if self.answers == 1 { self.short.saturating_add(1) } else { 0 };
        self.answers = 0;
    }

    /// Returns whether the server closes each connection after one answer.
    pub(super) fn closes(self) -> bool {
        self.short >= HABIT
    }

    /// Returns whether the habit is in doubt: the last connection ended with its first answer, but not enough in a row.
    pub(super) fn is_in_doubt(self) -> bool {
        self.short > 0 && !self.closes()
    }

    /// Returns whether an answer has come over the current connection.
    pub(super) fn is_used(self) -> bool {
        self.answers > 0
    }
}

#[cfg(test)]
mod tests {
    use super::Keeping;

    #[test]
    fn two_connections_that_end_with_their_first_answer_are_a_habit() {
        for is_announced in [true, false] {
            let mut keeping = Keeping::default();
            for expected in [false, true, true] {
                keeping.answered(is_announced);
                if !is_announced {
                    keeping.ended();
                }
                assert_eq!(keeping.closes(), expected);
            }
        }
    }

    #[test]
    fn a_connection_that_was_used_again_or_never_is_none() {
        let mut keeping = Keeping::default();
        for _ in 0..5 {
            keeping.answered(false);
            keeping.answered(false);
            keeping.ended();
            assert!(!keeping.closes() && !keeping.is_in_doubt());
            keeping.ended();
            assert!(!keeping.closes());
        }
        keeping.answered(true);
        assert!(keeping.is_in_doubt());
        keeping.answered(false);
        keeping.answered(false);
        keeping.answered(true);
        assert!(!keeping.closes(), "the last answer of many");
    }
}

//! Finds the requests that are to blame for a call that failed, as far as that can be known.
//!
//! When a call of several requests breaks its connection, times out or is answered with an error, any one of them may
//! be the cause: they are sent again in halves ([`crate::Suspects`]), and only a request that fails alone is to blame.

/// Additional breaks that a request is allowed when it was alone in its call while other requests were at the same model
/// server: one of those others may have killed the server.
const BESIDE_OTHERS: u32 = 3;
/// Number of breaks from which on a request is tried again with no other suspect beside it.
const GRAVE: u32 = 2;

/// Number of connections that broke with a request alone in its call. Breaks of calls of several do not count: resends
/// after them are bounded, because each time the call has half as many requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Breaks {
    alone: u32,
    beside: u32,
}

impl Breaks {
    /// Counts one break. `beside_others`: other requests were in flight at the model server.
    pub fn count(&mut self, beside_others: bool) {
        let count = if beside_others { &mut self.beside } else { &mut self.alone };
        *count = count.saturating_add(1);
    }

    /// Returns the number of all breaks.
    pub fn total(&self) -> u32 {
        self.alone.saturating_add(self.beside)
    }

    /// Returns whether the request is to be tried again with no other suspect in flight: two requests that both kill
    /// the server, and are always sent together, would hide each other.
    pub fn are_grave(&self) -> bool {
        self.total() >= GRAVE
    }

    /// Returns whether the request is answered with an error rather than sent once more, where a request may be sent
    /// again `retries` times.
    pub fn are_too_many(&self, retries: u32) -> bool {
        self.alone > retries || self.total() > retries.saturating_add(BESIDE_OTHERS)
    }
}

/// Most further calls in the search for the request that a server error is about, while no part of the batch has
/// succeeded: a server that answers everything with errors gets no more calls than this.
const CALLS_WITHOUT_SUCCESS: u32 = 16;

/// Search for the requests of one batch that a server error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ErrorSearch {
    extra_calls: u32,
    has_succeeded: bool,
}

/// Next step for the requests of a call that was answered with an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterError {
    /// Each half is sent again, before all others: one request is to blame.
    HalvesNext,
    /// Each half is sent again, after all others, so that larger parts go first: one that succeeds shows that the model
    /// server works.
    HalvesLast,
    /// All requests are answered with the error.
    Answer,
}

/// Statuses that concern all requests of a batch alike, because path, method and credentials are those of all: 429, 404,
/// 405, 401 and 403.
const CONCERN_ALL: [u16; 5] = [429, 404, 405, 401, 403];

/// Statuses that may be about one request: some servers answer a bad input with 500, and a proxy beside a server answers
/// 502 or 504 when its worker has died or hangs.
const MAY_BE_ONE: [u16; 3] = [500, 502, 504];

impl ErrorSearch {
    /// Decides what follows for the `requests` requests of a call that was answered with this HTTP status.
    /// `may_run_twice`: whether requests may be sent again that the server may have executed.
    pub fn after(&mut self, status: u16, requests: usize, may_run_twice: bool) -> AfterError {
        let is_several = requests > 1;
        if is_several && (400..500).contains(&status) && !CONCERN_ALL.contains(&status) {
            AfterError::HalvesNext
        } else if is_several && may_run_twice && MAY_BE_ONE.contains(&status) && self.goes_on() {
            AfterError::HalvesLast
        } else {
            AfterError::Answer
        }
    }

    /// Notes that a part of the batch succeeded: the server works, so its errors are about requests.
    pub fn succeeded(&mut self) {
        self.has_succeeded = true;
    }

    /// Returns whether the part that failed is to be sent again in halves, and counts the two calls. Searched breadth
    /// first, a batch of n requests of which k fail takes at most 2·k·⌈log2 n⌉ further calls.
    pub fn goes_on(&mut self) -> bool {
        let goes_on = self.has_succeeded || self.extra_calls < CALLS_WITHOUT_SUCCESS;
        if goes_on {
            self.extra_calls = self.extra_calls.saturating_add(2);
        }
        goes_on
    }
}

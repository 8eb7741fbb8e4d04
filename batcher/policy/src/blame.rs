//! Who is to blame for a call that failed, as far as that can be told.
//!
//! A call of several requests that breaks its connection, times out or is answered with an error says nothing of any
//! one of them: it is repeated in halves ([`crate::Suspects`]), and only what fails alone is to blame.

/// Additional breaks that a request is allowed when it was alone in its call while other requests were at the same model
/// server: one of those others may have killed the server.
const BESIDE_OTHERS: u32 = 3;
/// Number of breaks from which on a request is tried again with no other suspect beside it.
const GRAVE: u32 = 2;

/// How often a connection broke with a request alone in its call. Breaks of calls of several do not count: that the
/// request is sent again after each of them is bounded, for it is in half as many requests each time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Breaks {
    alone: u32,
    beside: u32,
}

impl Breaks {
    /// Counts one. `beside_others`: something else was in flight at the model server.
    pub fn count(&mut self, beside_others: bool) {
        let count = if beside_others { &mut self.beside } else { &mut self.alone };
        *count = count.saturating_add(1);
    }

    /// All that were counted.
    pub fn total(&self) -> u32 {
        self.alone.saturating_add(self.beside)
    }

    /// Whether the request is to be tried again by itself: two killers that always go together would shield each other.
    pub fn are_grave(&self) -> bool {
        self.total() >= GRAVE
    }

    /// Whether the request is answered with an error rather than sent once more, where one may be sent again `retries`
    /// times.
    pub fn are_too_many(&self, retries: u32) -> bool {
        self.alone > retries || self.total() > retries.saturating_add(BESIDE_OTHERS)
    }
}

/// Calls that are spent on finding the request that a server error is about, while no other part of the batch has
/// succeeded: a server that answers everything with errors is asked no more often than this.
const CALLS_WITHOUT_SUCCESS: u32 = 16;

/// The search for the requests of one batch that a server error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ErrorSearch {
    extra_calls: u32,
    has_succeeded: bool,
}

/// What follows for the requests of a call that was answered with an error.
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

    /// A part of the batch succeeded: the server works, so its errors are about requests.
    pub fn succeeded(&mut self) {
        self.has_succeeded = true;
    }

    /// Whether the part that failed is to be sent again in halves; counts the two calls. Searched breadth first, a
    /// batch of n requests of which k fail takes at most 2·k·⌈log2 n⌉ further calls.
    pub fn goes_on(&mut self) -> bool {
        let goes_on = self.has_succeeded || self.extra_calls < CALLS_WITHOUT_SUCCESS;
        if goes_on {
            self.extra_calls = self.extra_calls.saturating_add(2);
        }
        goes_on
    }
}

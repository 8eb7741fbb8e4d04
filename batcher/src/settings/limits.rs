//! How much memory and how many connections requests may take.

use super::table::{Bounds, Setting, settings_group};

/// The HTTP library's smallest buffer; heads of up to this size are read anyway.
const MIN_HEADER_BYTES: f64 = (8 << 10) as f64;
/// Beyond any head that a client of a model server has reason to send.
const MAX_HEADER_BYTES: f64 = (16 << 20) as f64;
/// A tensor takes a few hundred bytes while its request is here, whatever it holds.
const MAX_TENSORS: f64 = 16_384.0;

settings_group! {
    /// Limits
    pub struct LimitSettings {
        /// Maximum number of waiting requests per model; more are 429.
        queue_requests: usize = 4096, Setting::new("queueRequests").at_start().bounds(Bounds::AtLeastOne);
        /// Maximum bytes of all requests that arrive, wait or run, taken as they come; more are 429.
        queue_bytes: usize = 256 << 20, Setting::new("queueBytes").bounds(Bounds::AtLeastOne);
        /// Maximum bytes of the responses that clients have not taken, together.
        ///
        /// See [Clients that do not read](#clients-that-do-not-read). Where you limit the process's memory, leave room for it,
        /// `queueBytes` and one response of `maxBodyBytes` for each slot.
        answer_bytes: usize = 256 << 20, Setting::new("answerBytes").bounds(Bounds::AtLeastOne);
        /// Maximum bytes of one body; a larger one is 413.
        ///
        /// Also the limit of a model server's response, and of the memory that typed gRPC contents take once they are read (raw
        /// contents take none).
        max_body_bytes: usize = 64 << 20, Setting::new("maxBodyBytes").bounds(Bounds::AtLeastOne);
        /// Maximum number of client connections at once.
        ///
        /// At the limit, a new connection takes the place of the one that has been idle the longest, of the client address with
        /// the most. Where none is idle it is answered 503 and closed, except from addresses with fewer than four connections
        /// (probes), for which a sixteenth is kept. The limit of open files, which is raised at the start as far as possible,
        /// allows (files − 128) ÷ 2 at most; the log warns where that is less.
        max_connections: usize = 10_000, Setting::new("maxConnections").bounds(Bounds::AtLeastOne);
        /// Maximum number of input tensors, and of requested outputs, of a request; more are 400.
        ///
        /// At most 16384.
        max_tensors: usize = 256, Setting::new("maxTensors").bounds(Bounds::FromOneTo(MAX_TENSORS));
        /// Maximum number of parameters of a request, and of a tensor; more are 400.
        ///
        /// V1: maximum number of columns, and of other fields. At most 16384.
        max_parameters: usize = 64, Setting::new("maxParameters").bounds(Bounds::FromOneTo(MAX_TENSORS));
        /// Maximum bytes of a request's head; a longer one, or one of more than 100 headers, is 431.
        ///
        /// 8 KiB to 16 MiB.
        max_header_bytes: usize = 64 << 10, Setting::new("maxHeaderBytes")
            .file_only()
            .bounds(Bounds::Between(MIN_HEADER_BYTES, MAX_HEADER_BYTES));
    }
}

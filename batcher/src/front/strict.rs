//! Makes the HTTP library strict: it reads what [`Framing`] has read before it, as far as that found no fault, and
//! then what it refuses in any state.

use tokio::io::ReadBuf;

use super::framing::{Fault, Framing, Part};

/// What makes the HTTP library answer 400 and close, in order behind earlier answers: nowhere in a head or between
/// chunks may a carriage return be followed by a NUL. The end of a head follows, because the library may wait for it.
const INVALID: &[u8] = b"\r\0\r\n\r\n";

/// What stands between a connection's bytes and the library.
#[derive(Debug, Default)]
pub(super) struct Strict {
    framing: Framing,
    /// A fault was found: what else comes is not read, but this.
    poison: Option<&'static [u8]>,
}

impl Strict {
    /// Whether a request's head has begun and not ended.
    pub(super) fn is_in_head(&self) -> bool {
        self.poison.is_none() && self.framing.is_in_head()
    }

    /// Returns whether the connection speaks HTTP/2.
    #[allow(dead_code, reason = "asked by the comparison with hyper alone, in tests and under the fuzzer")]
    pub(super) fn is_opaque(&self) -> bool {
        self.framing.is_opaque()
    }

    /// Called before anything is read: whether there is nothing more to read, because a fault was found. Then `buf`
    /// has what the library is to read instead, which ends.
    pub(super) fn is_over(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let Some(poison) = self.poison else { return false };
        self.give(poison, buf);
        true
    }

    /// Looks at what was read into `buf` behind its first `before` bytes, and takes away what begins with a fault.
    /// `see` is given what the bytes are.
    ///
    /// # Errors
    /// The fault.
    pub(super) fn inspect(
        &mut self,
        buf: &mut ReadBuf<'_>,
        before: usize,
        see: impl FnMut(usize, Part<'_>),
    ) -> Result<(), Fault> {
        let Err((at, fault)) = self.framing.feed(&buf.filled()[before..], see) else { return Ok(()) };
        buf.set_filled(before + at);
        self.give(INVALID, buf);
        Err(fault)
    }

    fn give(&mut self, poison: &'static [u8], buf: &mut ReadBuf<'_>) {
        let (given, rest) = poison.split_at(poison.len().min(buf.remaining()));
        buf.put_slice(given);
        self.poison = Some(rest);
    }
}

#[cfg(test)]
mod differential;
#[cfg(test)]
mod tests;

//! The pieces of an answer that the HTTP library holds: small, each counted until the library has written it to the
//! socket.

use std::sync::Arc;

use bytes::Bytes;

use super::budget::Share;
use super::untaken::Untaken;

/// Maximum bytes that are handed over at a time: the library cannot give back what it has.
const PIECE_BYTES: usize = 16 << 10;

/// Bytes of an answer that the HTTP library holds. When the library drops them, the client counts as having taken them.
struct Piece {
    bytes: Bytes,
    untaken: Arc<Untaken>,
    _share: Option<Share>,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.untaken.sub(self.bytes.len());
        self.untaken.moves();
    }
}

/// Takes the next piece off `data`, whose bytes must have been added to `untaken` before.
///
/// Over HTTP/2 the piece is a copy. A stream whose window is used up keeps the rest of its last piece inside the
/// library even after a reset; were the piece a slice, that rest would keep the whole answer (or its whole batch's) in
/// memory.
pub fn next_piece(data: &mut Bytes, untaken: &Arc<Untaken>) -> Bytes {
    let slice = data.split_to(data.len().min(PIECE_BYTES));
    untaken.moves();
    let (bytes, _share) = if untaken.is_http2() {
        (Bytes::copy_from_slice(&slice), Some(untaken.budget().take(slice.len())))
    } else {
        (slice, None)
    };
    Bytes::from_owner(Piece { bytes, untaken: Arc::clone(untaken), _share })
}

/// Bytes of a relayed answer that the connection to the model server may buffer while the client takes nothing.
#[derive(Debug)]
pub struct Behind {
    untaken: Arc<Untaken>,
    bytes: usize,
    _share: Share,
}

impl Behind {
    /// Counts `bytes` for the answer until the value is dropped.
    pub fn new(untaken: &Arc<Untaken>, bytes: usize) -> Self {
        untaken.add(bytes);
        Self { untaken: Arc::clone(untaken), bytes, _share: untaken.budget().take(bytes) }
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        self.untaken.sub(self.bytes);
    }
}

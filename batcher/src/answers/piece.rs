//! What of an answer is in the hands of the HTTP library: small pieces, each known until the socket has it.

use std::sync::Arc;

use bytes::Bytes;

use super::budget::Share;
use super::untaken::Untaken;

/// Most bytes that are handed over at a time: what the library has, it cannot give back.
const PIECE_BYTES: usize = 16 << 10;

/// Bytes of an answer that the HTTP library holds; its drop tells that the client has taken them.
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

/// Takes the next piece off `data`, whose bytes have been added to those of the answer.
///
/// Over HTTP/2 it is a copy. A stream whose window is used up keeps the rest of its last piece inside the library even
/// after it was reset, and as a slice that rest would keep all of its answer, or of its batch's.
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

/// What the connection to a model server may hold of an answer that is passed on, while its client takes nothing.
#[derive(Debug)]
pub struct Behind {
    untaken: Arc<Untaken>,
    bytes: usize,
    _share: Share,
}

impl Behind {
    /// So many bytes may come that nobody asks for.
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

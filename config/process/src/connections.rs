//! Connections of a listening port: how many there may be, which one makes room for a newcomer, and how long a client
//! may be slow. Every port of every program is kept reachable by the same rules:
//!
//! - When the limit is reached, the connection that has been idle the longest is closed, of the peer that has the most
//!   connections. One with a request under way is never closed for a newcomer.
//! - Where nothing is idle, the last places are for peers with few connections: probes and scrapers.
//! - A client that sends no request, or does not read its response, is disconnected after a while.
//!
//! | module | content |
//! |---|---|
//! | [`eviction`] | pure: whether there is room, and which connections make it |
//! | [`activity`] | what a connection is doing, and when that is too slow |
//! | [`accept`] | the accept loop's step, with its pauses when the system refuses |
//! | [`serve`] | one HTTP connection under these rules |

pub mod accept;
pub mod activity;
pub mod eviction;
pub mod recurrence;
pub mod serve;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use activity::{Activity, Patience};
pub use eviction::Peer;
use eviction::{Open, has_room, victims};

/// Connections per one that is closed at a time: choosing costs as much for one as for several.
const EVICTED_AT_ONCE: usize = 64;

/// Number of connections that are closed when no file descriptor is left.
const EVICTED_WITHOUT_FILES: usize = 8;

/// Whether a connection has a request in progress.
pub trait Idleness: std::fmt::Debug + Send + Sync {
    /// Returns since when it has had none, in microseconds of a clock that all connections of a port share; `None` while it
    /// has one.
    fn idle_since_us(&self) -> Option<u64>;
}

/// The open connections of one port.
#[derive(Debug, Clone, Default)]
pub struct Connections(Arc<Mutex<Table>>);

#[derive(Debug, Default)]
struct Table {
    next_id: u64,
    open: HashMap<u64, Entry>,
    of_peer: HashMap<Peer, usize>,
    /// Time before which no idle connection is looked for again, because the last search found none.
    none_idle_until: Option<Instant>,
}

#[derive(Debug)]
struct Entry {
    peer: Peer,
    idleness: Arc<dyn Idleness>,
    evicted: CancellationToken,
}

/// A connection's place among those of its port; dropped when the connection ends.
#[derive(Debug)]
pub struct Place {
    id: u64,
    table: Arc<Mutex<Table>>,
    evicted: CancellationToken,
}

/// Outcome for a newcomer.
#[derive(Debug)]
pub enum Admission {
    /// The newcomer has a place.
    Admitted {
        /// Place of the connection.
        place: Place,
        /// Number of idle connections that were closed for it.
        evicted: usize,
    },
    /// All places are taken by connections with requests in progress.
    Refused,
}

impl Connections {
    /// Admits a connection from `peer`, if necessary in place of idle ones, so that there are at most `limit`.
    pub fn admit(&self, peer: SocketAddr, idleness: Arc<dyn Idleness>, limit: usize) -> Admission {
        let peer = Peer::from(peer.ip());
        let mut table = self.lock();
        let of_peer = table.of_peer.get(&peer).copied().unwrap_or(0);
        let mut evicted = 0;
        if !has_room(table.open.len(), of_peer, limit) {
            evicted = table.evict(Some(peer), (limit / EVICTED_AT_ONCE).max(1));
            // A limit that was lowered may need more of them; the rest goes with the next newcomers.
            if evicted == 0 || table.open.len() >= limit {
                return Admission::Refused;
            }
        }
        let id = table.next_id;
        table.next_id += 1;
        let token = CancellationToken::new();
        table.open.insert(id, Entry { peer, idleness, evicted: token.clone() });
        *table.of_peer.entry(peer).or_default() += 1;
        drop(table);
        Admission::Admitted { place: Place { id, table: Arc::clone(&self.0), evicted: token }, evicted }
    }

    /// Closes a few idle connections when the process has no file descriptors left, which other parts of it need too.
    pub fn make_room(&self) {
        self.lock().evict(None, EVICTED_WITHOUT_FILES);
    }

    /// Returns the number of connections, without those that are being closed.
    pub fn len(&self) -> usize {
        self.lock().open.len()
    }

    /// Returns whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        lock(&self.0)
    }
}

impl Table {
    /// Closes up to `most` connections, and returns how many.
    fn evict(&mut self, newcomer: Option<Peer>, most: usize) -> usize {
        let now = Instant::now();
        if self.none_idle_until.is_some_and(|until| now < until) {
            return 0;
        }
        let open: Vec<Open> = self
            .open
            .iter()
            .map(|(&id, entry)| Open { id, peer: entry.peer, idle_since_us: entry.idleness.idle_since_us() })
            .collect();
        let chosen = victims(&open, newcomer, most);
        // A microsecond for each connection: looking in vain takes a small part of the time however many newcomers
        // there are, and with few connections it is looked every time.
        self.none_idle_until = chosen.is_empty().then(|| now + Duration::from_micros(open.len() as u64));
        for id in &chosen {
            if let Some(entry) = self.remove(*id) {
                entry.evicted.cancel();
            }
        }
        chosen.len()
    }

    fn remove(&mut self, id: u64) -> Option<Entry> {
        let entry = self.open.remove(&id)?;
        if let Some(count) = self.of_peer.get_mut(&entry.peer) {
            *count -= 1;
            if *count == 0 {
                self.of_peer.remove(&entry.peer);
            }
        }
        Some(entry)
    }
}

impl Place {
    /// Resolves when the connection is to close for another one.
    pub async fn evicted(&self) {
        self.evicted.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.table).remove(self.id);
    }
}

/// Locks a table. A panic elsewhere cannot leave it half changed: nothing that may panic runs under the lock.
fn lock(table: &Mutex<Table>) -> MutexGuard<'_, Table> {
    table.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// Idle since so many microseconds; `u64::MAX`: not idle.
    #[derive(Debug)]
    struct Since(AtomicU64);

    impl Idleness for Since {
        fn idle_since_us(&self) -> Option<u64> {
            Some(self.0.load(Ordering::Relaxed)).filter(|&since| since < u64::MAX)
        }
    }

    fn since(us: u64) -> Arc<Since> {
        Arc::new(Since(AtomicU64::new(us)))
    }

    fn from(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 1))
    }

    fn place(admission: Admission) -> (Place, usize) {
        match admission {
            Admission::Admitted { place, evicted } => (place, evicted),
            Admission::Refused => panic!("refused"),
        }
    }

    #[test]
    fn a_newcomer_takes_the_place_of_the_oldest_idle_one_and_never_of_a_busy_one() {
        let connections = Connections::default();
        let (busy, _) = place(connections.admit(from(1), since(u64::MAX), 3));
        let (old, _) = place(connections.admit(from(1), since(5), 3));
        let (young, _) = place(connections.admit(from(1), since(6), 3));
        let (newcomer, evicted) = place(connections.admit(from(1), since(u64::MAX), 3));
        assert_eq!(evicted, 1);
        assert!(old.evicted.is_cancelled() && !young.evicted.is_cancelled() && !busy.evicted.is_cancelled());
        assert_eq!(connections.len(), 3, "what was told to close does not count");
        drop(old);
        assert_eq!(connections.len(), 3);
        drop((busy, young, newcomer));
        assert!(connections.is_empty());
        assert!(lock(&connections.0).of_peer.is_empty(), "nothing is kept of peers that are gone");
    }

    #[test]
    fn where_all_are_busy_a_peer_with_few_connections_still_gets_in() {
        let connections = Connections::default();
        let mut kept = Vec::new();
        while let Admission::Admitted { place, .. } = connections.admit(from(1), since(u64::MAX), 64) {
            kept.push(place);
        }
        assert_eq!(kept.len(), 60);
        for prober in 2..6 {
            kept.push(place(connections.admit(from(prober), since(u64::MAX), 64)).0);
        }
        assert!(matches!(connections.admit(from(9), since(u64::MAX), 64), Admission::Refused));
        assert_eq!(connections.len(), 64, "never more than the limit");
    }
}

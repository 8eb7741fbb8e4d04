//! Decides whether a port has room for another connection, and which idle ones to close (pure: no clock, no sockets).

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::net::{IpAddr, Ipv6Addr};

/// One in this number of places is kept for peers with few connections.
const SHARE: usize = 16;
/// A peer has few connections if it has fewer than this number.
const FEW: usize = 4;

/// The other end of a connection, as far as fairness goes: its IPv4 address, or the 64 bits of its IPv6 network, of
/// which one machine may use every address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Peer(IpAddr);

impl From<IpAddr> for Peer {
    fn from(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V6(address) if !address.is_loopback() => {
                Self(IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))))
            }
            address => Self(address),
        }
    }
}

/// One open connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// Number of the connection.
    pub id: u64,
    /// Other end of the connection.
    pub peer: Peer,
    /// Time since which it has had no request under way; `None` while it has one.
    pub idle_since_us: Option<u64>,
}

/// Returns whether a peer that has `of_peer` of the `open` connections may have another one, where there may be
/// `limit`: the last sixteenth of the places is for those that have fewer than four.
pub fn has_room(open: usize, of_peer: usize, limit: usize) -> bool {
    let kept = if of_peer < FEW { 0 } else { limit / SHARE };
    open < limit.saturating_sub(kept)
}

/// Chooses up to `most` idle connections to close. Again and again the peer with the most connections loses the one
/// that has been idle the longest; the newcomer counts as one of its peer's. Among equals the oldest goes.
pub fn victims(open: &[Open], newcomer: Option<Peer>, most: usize) -> Vec<u64> {
    let mut counts: HashMap<Peer, usize> = newcomer.iter().map(|&peer| (peer, 1)).collect();
    let mut idle: HashMap<Peer, Vec<Reverse<(u64, u64)>>> = HashMap::new();
    for connection in open {
        *counts.entry(connection.peer).or_default() += 1;
        if let Some(since_us) = connection.idle_since_us {
            idle.entry(connection.peer).or_default().push(Reverse((since_us, connection.id)));
        }
    }
    let mut peers: BinaryHeap<_> = idle
        .into_iter()
        .filter_map(|(peer, idle)| {
            let mut idle = BinaryHeap::from(idle);
            let oldest = idle.pop()?;
            Some((counts.get(&peer).copied().unwrap_or(0), oldest, peer, ById(idle)))
        })
        .collect();
    let mut chosen = Vec::new();
    while chosen.len() < most
        && let Some((count, Reverse((_, id)), peer, mut rest)) = peers.pop()
    {
        chosen.push(id);
        if let Some(next) = rest.0.pop() {
            peers.push((count - 1, next, peer, rest));
        }
    }
    chosen
}

/// The further idle connections of a peer, which play no part in the order of peers.
struct ById(BinaryHeap<Reverse<(u64, u64)>>);

impl PartialEq for ById {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for ById {}

impl PartialOrd for ById {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ById {
    fn cmp(&self, _: &Self) -> std::cmp::Ordering {
        std::cmp::Ordering::Equal
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn peer(number: u8) -> Peer {
        Peer::from(IpAddr::from([10, 0, 0, number]))
    }

    #[test]
    fn addresses_of_one_machine_are_one_peer() {
        let of = |text: &str| Peer::from(text.parse::<IpAddr>().unwrap());
        assert_eq!(of("::ffff:10.0.0.1"), of("10.0.0.1"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::2:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_ne!(of("10.0.0.1"), of("10.0.0.2"));
        assert_ne!(of("::1"), of("::2"), "the loopback interface is nobody's network");
    }

    prop_compose! {
        fn connections()(list in prop::collection::vec((0..6u8, prop::option::of(0..20u64)), 0..60)) -> Vec<Open> {
            let open = |(id, (number, idle_since_us))| Open { id, peer: peer(number), idle_since_us };
            (0..).zip(list).map(open).collect()
        }
    }

    proptest! {
        #[test]
        fn only_idle_ones_go_each_once_and_as_many_as_there_are(
            open in connections(),
            newcomer in prop::option::of(0..8u8),
            most in 0..70usize,
        ) {
            let chosen = victims(&open, newcomer.map(peer), most);
            let idle: HashSet<u64> =
                open.iter().filter(|one| one.idle_since_us.is_some()).map(|one| one.id).collect();
            prop_assert_eq!(chosen.len(), most.min(idle.len()));
            let distinct: HashSet<u64> = chosen.iter().copied().collect();
            prop_assert_eq!(distinct.len(), chosen.len());
            prop_assert!(distinct.is_subset(&idle));
        }

        #[test]
        fn each_is_the_oldest_of_the_peer_with_the_most_connections(
            open in connections(),
            newcomer in prop::option::of(0..8u8),
            most in 0..70usize,
        ) {
            let mut left = open.clone();
            for id in victims(&open, newcomer.map(peer), most) {
                let count = |of: Peer| {
                    left.iter().filter(|one| one.peer == of).count()
                        + usize::from(newcomer.map(peer) == Some(of))
                };
                let gone = *left.iter().find(|one| one.id == id).unwrap();
                for other in left.iter().filter(|one| one.idle_since_us.is_some()) {
                    prop_assert!(count(other.peer) <= count(gone.peer));
                    if count(other.peer) == count(gone.peer) {
                        prop_assert!(gone.idle_since_us <= other.idle_since_us);
                    }
                }
                left.retain(|one| one.id != id);
            }
        }

        #[test]
        fn there_are_never_more_than_the_limit_and_few_find_room_where_many_do_not(
            open in 0..2000usize,
            of_peer in 0..2000usize,
            limit in 1..2000usize,
        ) {
            prop_assert!(!has_room(open, of_peer, limit) || open < limit);
            prop_assert_eq!(has_room(open, 0, limit), open < limit);
            prop_assert!(has_room(open, 0, limit) || !has_room(open, of_peer, limit));
        }
    }
}

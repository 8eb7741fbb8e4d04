//! Reads the kernel's text tables, `/proc/net/tcp` and `/proc/net/tcp6`. They exist everywhere, but are slow on a
//! machine with room for many connections.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr};

/// TCP state `LISTEN` as `/proc/net/tcp` prints it.
const LISTEN: &str = "0A";

/// Size of one read. Small, because the kernel produces only as much of the table as a read asks for; after the
/// listening sockets, which come first, it searches its whole table of connections, which takes milliseconds.
const READ_BYTES: usize = 256;

/// Returns the inodes of the sockets that accept connections to `target`.
pub(super) fn listener_inodes(target: SocketAddr) -> Vec<u64> {
    let mut inodes = Vec::new();
    for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        if let Ok(table) = File::open(file) {
            let lines = BufReader::with_capacity(READ_BYTES, table).lines();
            inodes.extend(parse(lines.map_while(Result::ok), target));
        }
    }
    inodes
}

/// Returns the inodes in one table of sockets that listen on the target's port, at its address or any address. Stops at
/// the first socket that does not listen.
fn parse(lines: impl Iterator<Item = String>, target: SocketAddr) -> impl Iterator<Item = u64> {
    lines
        .skip(1)
        .take_while(|line| line.split_ascii_whitespace().nth(3) == Some(LISTEN))
        .filter_map(move |line| inode_of(&line, target))
}

fn inode_of(line: &str, target: SocketAddr) -> Option<u64> {
    let mut fields = line.split_ascii_whitespace();
    let (address, port) = fields.nth(1)?.split_once(':')?;
    if u16::from_str_radix(port, 16).ok()? != target.port() {
        return None;
    }
    let address = address_of_hex(address)?;
    let accepts = address.is_unspecified() || address.to_canonical() == target.ip().to_canonical();
    // After the local address: remote address, state, then five fields up to the inode.
    accepts.then(|| fields.nth(7)?.parse().ok()).flatten()
}

/// Parses an address, which the kernel prints as 32-bit words in the machine's byte order.
fn address_of_hex(hex: &str) -> Option<IpAddr> {
    let word = |start: usize| u32::from_str_radix(hex.get(start..start + 8)?, 16).ok().map(u32::to_ne_bytes);
    match hex.len() {
        8 => Some(IpAddr::from(word(0)?)),
        32 => {
            let mut bytes = [0; 16];
            for (index, chunk) in bytes.chunks_exact_mut(4).enumerate() {
                chunk.copy_from_slice(&word(index * 8)?);
            }
            Some(IpAddr::from(bytes))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";

    fn find(rows: &str, target: &str) -> Vec<u64> {
        let table = format!("{HEADER}{rows}");
        parse(table.lines().map(String::from), target.parse().unwrap()).collect()
    }

    #[test]
    fn the_listener_on_the_exact_address_is_found_and_established_connections_are_not() {
        let rows = "\
   0: 0100007F:2329 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0
   1: 0100007F:2329 0100007F:C001 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 20 4 30 10 -1
   2: 0100007F:2328 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0 100 0 0 10 0
";
        assert_eq!(find(rows, "127.0.0.1:9001"), [4711]);
    }

    #[test]
    fn a_listener_on_any_address_counts_also_in_ipv6() {
        let v4 = "   0: 00000000:2329 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1\n";
        assert_eq!(find(v4, "127.0.0.1:9001"), [1]);
        let v6 = "   0: 00000000000000000000000000000000:2329 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 2 1\n";
        assert_eq!(find(v6, "127.0.0.1:9001"), [2]);
        let loopback6 = "   0: 00000000000000000000000001000000:2329 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 3 1\n";
        assert_eq!(find(loopback6, "[::1]:9001"), [3]);
        assert!(find(loopback6, "127.0.0.1:9001").is_empty());
    }

    #[test]
    fn broken_lines_are_skipped() {
        let good = "   0: 0100007F:2329 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 5 1\n";
        assert_eq!(find(&format!(" 0: zz:2329 x 0A\n 1: x y 0A\n{good}"), "127.0.0.1:9001"), [5]);
        assert!(find("garbage\n   1: 0100007F\n", "127.0.0.1:9001").is_empty());
    }
}

//! Finds the sockets that listen on a port or a path, by their inodes.
//!
//! The batcher shares its network namespace with the model server (one pod, or one machine), so the inode
//! tells a restarted server from the one that was warmed, even if it came back within milliseconds.

mod diag;
mod table;
mod unix;

use std::net::SocketAddr;

pub use unix::unix_listener_inodes;

/// Returns the inodes of the sockets that accept connections to `target`, sorted; empty if there are none, or the
/// listener is in another network namespace.
pub fn listener_inodes(target: SocketAddr) -> Vec<u64> {
    let mut inodes = match diag::listeners(target.port()) {
        Ok(listeners) => {
            let accepts = |address: &std::net::IpAddr| {
                address.is_unspecified() || address.to_canonical() == target.ip().to_canonical()
            };
            listeners.into_iter().filter(|(address, _)| accepts(address)).map(|(_, inode)| inode).collect()
        }
        // Kernels without the module, and sandboxes, do not support the query.
        Err(_) => table::listener_inodes(target),
    };
    inodes.sort_unstable();
    inodes.dedup();
    inodes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_socket_on_the_same_port_has_another_inode() {
        let first = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap();
        let before = listener_inodes(address);
        assert_eq!(before.len(), 1);
        drop(first);
        assert!(listener_inodes(address).is_empty());
        let _second = std::net::TcpListener::bind(address).unwrap();
        assert_ne!(listener_inodes(address), before);
    }

    #[test]
    fn the_kernel_and_its_table_say_the_same() {
        for address in ["127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"] {
            let Ok(listener) = std::net::TcpListener::bind(address) else { continue };
            let mut target = listener.local_addr().unwrap();
            if target.ip().is_unspecified() {
                target.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
            }
            assert_eq!(listener_inodes(target), table::listener_inodes(target), "{address}");
            assert_eq!(listener_inodes(target).len(), 1, "{address}");
        }
    }
}

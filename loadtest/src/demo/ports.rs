//! Loopback ports of one run. They are below the range that the system assigns, and no two runs share one, so that no
//! other process takes a port between the check that it is free and the start of its program.

use std::io::{Error, ErrorKind, Result};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};

/// First port of the blocks; Linux itself assigns ports from 32768 on.
const FIRST: u16 = 12_000;
/// Number of ports of a run: its guard, and four for each arm.
const BLOCK: u16 = 64;
/// Maximum number of simultaneous runs.
const BLOCKS: u16 = 300;

/// Block of ports that belongs to one run until this is dropped.
#[derive(Debug, Clone)]
pub(crate) struct Ports {
    /// Listener on the first port of the block, which makes other runs take other blocks.
    guard: Arc<TcpListener>,
    next: Arc<AtomicU16>,
    end: u16,
}

impl Ports {
    /// Reserves a block that no other run has. `start` selects the block that is tried first.
    ///
    /// # Errors
    /// When all blocks are taken.
    pub(crate) fn take(start: u32) -> Result<Self> {
        let start = (start % u32::from(BLOCKS)) as u16;
        for index in 0..BLOCKS {
            let first = FIRST + (start + index) % BLOCKS * BLOCK;
            if let Ok(guard) = TcpListener::bind((Ipv4Addr::LOCALHOST, first)) {
                let next = Arc::new(AtomicU16::new(first + 1));
                return Ok(Self { guard: Arc::new(guard), next, end: first + BLOCK });
            }
        }
        Err(Error::new(ErrorKind::AddrInUse, "all blocks of ports for demos are taken"))
    }

    /// Returns addresses on which no process listens; none is returned twice.
    ///
    /// # Errors
    /// When the block has too few ports left.
    pub(crate) fn addresses<const N: usize>(&self) -> Result<[SocketAddr; N]> {
        let mut addresses = [SocketAddr::from((Ipv4Addr::LOCALHOST, 0)); N];
        for address in &mut addresses {
            *address = self.address()?;
        }
        Ok(addresses)
    }

    fn address(&self) -> Result<SocketAddr> {
        loop {
            let port = self.next.fetch_add(1, Ordering::Relaxed);
            if port >= self.end {
                let first = self.guard.local_addr()?;
                let message = format!("the block of ports that begins at {first} has no port left");
                return Err(Error::new(ErrorKind::AddrInUse, message));
            }
            let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            if TcpListener::bind(address).is_ok() {
                return Ok(address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_two_runs_and_no_two_arms_get_the_same_port() {
        let (one, other) = (Ports::take(7).unwrap(), Ports::take(7).unwrap());
        let mut all = BTreeSet::new();
        for ports in [&one, &one.clone(), &other] {
            all.extend(ports.addresses::<4>().unwrap());
        }
        assert_eq!(all.len(), 12);
    }

    #[test]
    fn a_port_that_somebody_has_is_left_out_and_the_end_is_told() {
        let ports = Ports::take(11).unwrap();
        let [first] = ports.addresses().unwrap();
        let _taken = TcpListener::bind((Ipv4Addr::LOCALHOST, first.port() + 1));
        let [second] = ports.addresses().unwrap();
        assert_eq!(second.port(), first.port() + 2);
        let error = (0..).find_map(|_| ports.addresses::<4>().err()).unwrap();
        assert!(error.to_string().contains("has no port left"), "{error}");
    }
}

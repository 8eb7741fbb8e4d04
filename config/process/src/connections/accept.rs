//! One step of the accept loop: the next connection, with pauses while the system fails to accept.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;

use super::Connections;
use super::recurrence::Recurrence;

/// First pause where no file descriptor is left; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
/// Longest pause after a connection could not be accepted.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Silence after which the kernel first probes whether the peer still exists.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// The kernel's pause between two such probes; nine without an answer end the connection.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);

/// Accepts connections of one port.
#[derive(Debug)]
pub struct Acceptor {
    listener: TcpListener,
    name: &'static str,
    since: Instant,
    troubles: Troubles,
    full: Recurrence,
}

impl Acceptor {
    /// Creates an acceptor of `listener`; `name` is the port's name in log lines, such as `admin`.
    pub fn new(listener: TcpListener, name: &'static str) -> Self {
        // Accepted sockets have these from their listener. Without them all works but for peers that vanish.
        let kept_alive = sockopt::set_socket_keepalive(&listener, true)
            .and_then(|()| sockopt::set_tcp_keepidle(&listener, KEEPALIVE_AFTER))
            .and_then(|()| sockopt::set_tcp_keepintvl(&listener, KEEPALIVE_EVERY));
        if let Err(error) = kept_alive {
            tracing::debug!(port = name, %error, "Failed to set TCP keep-alive.");
        }
        Self {
            listener,
            name,
            since: Instant::now(),
            troubles: Troubles::default(),
            full: Recurrence::default(),
        }
    }

    /// Returns the next connection. When the process has no file descriptors left, the idle connection that is the
    /// first to go makes room.
    pub async fn accept(&mut self, connections: &Connections) -> (TcpStream, SocketAddr) {
        loop {
            let error = match self.listener.accept().await {
                Ok(accepted) => {
                    self.troubles.over();
                    return accepted;
                }
                Err(error) => error,
            };
            let reaction = self.troubles.react(&error, self.since.elapsed());
            if let Some(count) = reaction.report {
                tracing::warn!(
                    port = self.name,
                    %error,
                    count,
                    "Failed to accept connections; if too many files are open, raise the limit of open files."
                );
            }
            if reaction.needs_room {
                connections.make_room();
            }
            match reaction.pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => tokio::task::yield_now().await,
            }
        }
    }

    /// Logs, at most once per interval, that the limit of connections was reached: `evicted` idle ones were closed for a
    /// newcomer, or the newcomer was refused.
    pub fn is_full(&mut self, limit: usize, evicted: usize) {
        let Some(count) = self.full.note(self.since.elapsed()) else { return };
        let outcome = if evicted > 0 { "idle connections were closed" } else { "a newcomer was refused" };
        tracing::warn!(port = self.name, limit, count, outcome, "The limit of connections is reached.");
    }
}

/// Reaction to a failed accept.
#[derive(Debug, PartialEq, Eq)]
struct Reaction {
    /// Pause before the next accept; `None` for none.
    pause: Option<Duration>,
    /// Number of failures to report; `None` to log nothing now.
    report: Option<u64>,
    /// Whether an idle connection should be closed.
    needs_room: bool,
}

/// Failures to accept since the last success. Pure.
#[derive(Debug, Default)]
struct Troubles {
    pause: Option<Duration>,
    reports: Recurrence,
}

impl Troubles {
    fn react(&mut self, error: &io::Error, now: Duration) -> Reaction {
        let errno = Errno::from_io_error(error);
        // That connection is gone, and the next one may be there: it has been taken from the queue.
        if matches!(errno, Some(Errno::CONNABORTED | Errno::CONNRESET | Errno::INTR | Errno::PROTO)) {
            return Reaction { pause: None, report: None, needs_room: false };
        }
        let pause = self.pause.map_or(FIRST_PAUSE, |pause| (pause * 2).min(LONGEST_PAUSE));
        self.pause = Some(pause);
        let needs_room = matches!(errno, Some(Errno::MFILE | Errno::NFILE));
        Reaction { pause: Some(pause), report: self.reports.note(now), needs_room }
    }

    fn over(&mut self) {
        self.pause = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn out_of_files_it_pauses_longer_and_longer_and_says_so_once() {
        let error = || io::Error::from(Errno::MFILE);
        let mut troubles = Troubles::default();
        let mut now = Duration::ZERO;
        let mut reported = 0;
        let mut lines = 0;
        for _ in 0..30 {
            let reaction = troubles.react(&error(), now);
            assert!(reaction.needs_room);
            let pause = reaction.pause.unwrap();
            assert!((FIRST_PAUSE..=LONGEST_PAUSE).contains(&pause));
            lines += u64::from(reaction.report.is_some());
            reported += reaction.report.unwrap_or(0);
            now += pause;
        }
        assert!(now > Duration::from_secs(20) && now < Duration::from_secs(30), "{now:?}");
        assert_eq!(lines, 3, "one line in ten seconds");
        assert!(reported > 20, "with a count: {reported}");
        troubles.over();
        assert_eq!(troubles.react(&error(), now).pause, Some(FIRST_PAUSE));
    }

    #[test]
    fn a_connection_that_was_aborted_delays_no_other_one_and_is_not_reported() {
        let mut troubles = Troubles::default();
        for errno in [Errno::CONNABORTED, Errno::CONNRESET] {
            let reaction = troubles.react(&errno.into(), Duration::ZERO);
            assert_eq!(reaction, Reaction { pause: None, report: None, needs_room: false });
        }
        let other = troubles.react(&io::Error::other("?"), Duration::ZERO);
        assert!(other.pause.is_some() && !other.needs_room);
    }
}

//! Ports, threads and the log of the process.

use std::net::SocketAddr;

use sluice_process::logging::LogFormat;

use super::table::{Setting, settings_group};

settings_group! {
    /// The process
    pub struct ProcessSettings {
        /// Front port: HTTP/1.1, h2c and gRPC.
        ///
        /// `[::]:8080` takes IPv4 and IPv6.
        listen: SocketAddr = SocketAddr::from(([0, 0, 0, 0], 8080)),
            Setting::new("listen").value_name("ADDRESS").at_start();
        /// Admin port: /metrics /livez /readyz /upstreams /explain /drain /upstream-livez /upstream-startedz.
        admin_listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 8081)),
            Setting::new("adminListen").value_name("ADDRESS").at_start();
        /// Threads for requests; 0 is one per core.
        worker_threads: usize = 1, Setting::new("workerThreads").at_start();
        /// Format of the log lines.
        log_format: LogFormat = LogFormat::Text, Setting::new("logFormat").at_start();
        /// Log filter: error, warn, info, debug, trace, or target=level,….
        log_level: String = "info".to_owned(), Setting::new("logLevel").at_start();
    }
}

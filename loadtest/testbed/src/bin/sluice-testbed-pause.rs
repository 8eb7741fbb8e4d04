//! The first process of every pod of a test cluster: holds the pod's namespaces and does nothing. It needs no
//! signal handler, since containerd ends it with SIGKILL.

use std::time::Duration;

use rustix::process::{WaitOptions, wait};

/// How often it looks for what others left behind; only pods that share one process namespace have any.
const REAP_EVERY: Duration = Duration::from_secs(10);

fn main() {
    loop {
        while let Ok(Some(_)) = wait(WaitOptions::NOHANG) {}
        std::thread::sleep(REAP_EVERY);
    }
}

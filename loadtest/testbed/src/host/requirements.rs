//! Requirements on the machine, all checked before anything is changed.

use std::path::Path;

use anyhow::{Result, bail};

/// Programs, with the Debian package of each.
const PROGRAMS: [(&str, &str); 10] = [
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("setsid", "util-linux"),
    ("mount", "mount"),
    ("umount", "mount"),
    ("ip", "iproute2"),
    ("nft", "nftables"),
    ("conntrack", "conntrack"),
    ("ldd", "libc-bin"),
    ("env", "coreutils"),
];

/// Programs that the policy engine starts, with the Debian package of each.
const POLICY_PROGRAMS: [(&str, &str); 4] = [
    ("iptables-save", "iptables"),
    ("iptables-restore", "iptables"),
    ("ip6tables", "iptables"),
    ("ipset", "ipset"),
];

/// Checks that the machine has everything that a cluster needs.
///
/// # Errors
/// With everything that is missing, and how to install it.
pub(crate) fn check(prometheus: bool, network_policies: bool) -> Result<()> {
    if !rustix::process::geteuid().is_root() {
        bail!("a cluster needs root: it makes namespaces, mounts and cgroups. Run the same with sudo");
    }
    let wanted = PROGRAMS.into_iter().chain(prometheus.then_some(("prometheus", "prometheus")));
    let of_policies = POLICY_PROGRAMS.into_iter().filter(|_| network_policies);
    let wanted = wanted.chain(of_policies);
    let missing: Vec<_> = wanted.filter(|(program, _)| !in_path(program)).collect();
    match message(&missing) {
        Some(message) => bail!(message),
        None => Ok(()),
    }
}

fn message(missing: &[(&str, &str)]) -> Option<String> {
    if missing.is_empty() {
        return None;
    }
    let programs: Vec<&str> = missing.iter().map(|(program, _)| *program).collect();
    let mut packages: Vec<&str> = missing.iter().map(|(_, package)| *package).collect();
    packages.sort_unstable();
    packages.dedup();
    Some(format!("not in PATH: {}. Debian: apt-get install {}", programs.join(", "), packages.join(" ")))
}

/// Returns whether PATH has this program.
pub(crate) fn in_path(program: &str) -> bool {
    find_in_path(program).is_some()
}

/// Returns the path of a program in PATH, /usr/sbin or /sbin; `None` if none has it.
pub(crate) fn find_in_path(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    folders.map(|folder| folder.join(program)).find(|file| Path::is_file(file))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_missing_is_named_with_the_packages_to_install() {
        let missing = [("nft", "nftables"), ("unshare", "util-linux"), ("nsenter", "util-linux")];
        assert_eq!(
            message(&missing).unwrap(),
            "not in PATH: nft, unshare, nsenter. Debian: apt-get install nftables util-linux"
        );
        assert_eq!(message(&[]), None);
    }
}

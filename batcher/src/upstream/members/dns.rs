//! Members from DNS: all addresses of a name, such as a headless Service, looked up periodically.
//!
//! The system's resolver uses the same search domains, hosts file and name servers as every other program of the
//! container. It reports failures only as text: only texts that are known to mean that the name has no addresses empty
//! the membership; any other failure leaves it unchanged.

use std::net::SocketAddr;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::settings::{Live, Member};

/// Result of a lookup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Lookup {
    /// Addresses of the name; empty if it has none, or there is no such name.
    Found(Vec<SocketAddr>),
    /// The lookup failed; holds the system's text.
    Failed(String),
}

/// A resolver that looks up the addresses of `host:port`.
#[async_trait]
pub(super) trait Resolver: Send + Sync + 'static {
    async fn lookup(&self, name: &str) -> Lookup;
}

/// The system's resolver.
pub(super) struct SystemResolver;

#[async_trait]
impl Resolver for SystemResolver {
    async fn lookup(&self, name: &str) -> Lookup {
        match tokio::net::lookup_host(name).await {
            Ok(addresses) => Lookup::Found(addresses.collect()),
            Err(error) => lookup_of_error(&error.to_string()),
        }
    }
}

/// Texts of glibc and musl for `EAI_NONAME` and `EAI_NODATA`.
const NO_ADDRESSES: [&str; 5] = [
    "Name or service not known",
    "No address associated with hostname",
    "Name does not resolve",
    "Name has no usable address",
    "No address associated with name",
];

fn lookup_of_error(words: &str) -> Lookup {
    if NO_ADDRESSES.iter().any(|known| words.contains(known)) {
        Lookup::Found(Vec::new())
    } else {
        Lookup::Failed(words.to_owned())
    }
}

/// Looks up the name every `membersPollMs` and sends the members whenever they have changed. Ends when the receiver is
/// dropped.
pub(super) fn watch(resolver: impl Resolver, name: String, settings: Live) -> mpsc::Receiver<Vec<Member>> {
    let (found, members) = mpsc::channel(1);
    tokio::spawn(async move {
        let mut poll = interval(Duration::from_millis(settings.now().servers.members_poll_ms));
        poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = None;
        let mut trouble = String::new();
        while !found.is_closed() {
            poll.tick().await;
            let addresses = match resolver.lookup(&name).await {
                Lookup::Found(addresses) => addresses,
                Lookup::Failed(words) => {
                    if trouble != words {
                        tracing::warn!(
                            name,
                            trouble = words,
                            "Failed to resolve the name of the model servers; the membership stays as it is."
                        );
                        trouble = words;
                    }
                    continue;
                }
            };
            trouble.clear();
            let now = members_at(addresses);
            if before.as_ref() != Some(&now) {
                if found.send(now.clone()).await.is_err() {
                    return;
                }
                before = Some(now);
            }
        }
    });
    members
}

/// Returns one member per address, sorted, so that the order of the answer does not matter.
fn members_at(mut addresses: Vec<SocketAddr>) -> Vec<Member> {
    addresses.sort_unstable();
    addresses.dedup();
    let member = |address: SocketAddr| Member {
        name: address.to_string(),
        address: address.to_string(),
        grpc_address: None,
    };
    addresses.into_iter().map(member).collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;
    use crate::settings::Settings;

    /// Returns its answers in order, then fails.
    struct Scripted(Mutex<Vec<Lookup>>);

    #[async_trait]
    impl Resolver for Scripted {
        async fn lookup(&self, name: &str) -> Lookup {
            assert_eq!(name, "bert.ns.svc:9000");
            self.0.lock().unwrap().pop().unwrap_or(Lookup::Failed("the script is over".to_owned()))
        }
    }

    fn found(addresses: &[&str]) -> Lookup {
        Lookup::Found(addresses.iter().map(|address| address.parse().unwrap()).collect())
    }

    #[tokio::test(start_paused = true)]
    async fn members_follow_the_answers_and_a_failure_keeps_them() {
        let mut script = vec![
            found(&["10.0.0.2:9000", "10.0.0.1:9000", "[fd00::1]:9000"]),
            // The same in another order is nothing new.
            found(&["[fd00::1]:9000", "10.0.0.1:9000", "10.0.0.2:9000", "10.0.0.1:9000"]),
            Lookup::Failed("Temporary failure in name resolution".to_owned()),
            found(&["10.0.0.2:9000"]),
            found(&[]),
            found(&["10.0.0.9:9000"]),
        ];
        script.reverse();
        let settings = Live::new(Settings::default());
        let mut members = watch(Scripted(Mutex::new(script)), "bert.ns.svc:9000".to_owned(), settings);
        let mut seen = Vec::new();
        for _ in 0..4 {
            let members = members.recv().await.unwrap();
            seen.push(members.into_iter().map(|member| member.address).collect::<Vec<_>>());
        }
        let expected: [&[&str]; 4] = [
            &["10.0.0.1:9000", "10.0.0.2:9000", "[fd00::1]:9000"],
            &["10.0.0.2:9000"],
            &[],
            &["10.0.0.9:9000"],
        ];
        assert_eq!(seen, expected);
    }

    #[test]
    fn only_a_name_without_addresses_empties_the_membership() {
        let words = |words| format!("failed to lookup address information: {words}");
        assert_eq!(lookup_of_error(&words("Name or service not known")), Lookup::Found(Vec::new()));
        for kept in ["Temporary failure in name resolution", "Try again", "Non-recoverable failure", ""] {
            assert!(matches!(lookup_of_error(&words(kept)), Lookup::Failed(_)), "{kept}");
        }
    }
}

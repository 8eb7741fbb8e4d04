//! The preStop hook of the template's own. A container has only one hook, which becomes the drain; the sidecar does the
//! template's own, sleeping before the drain and calling after it:
//!
//! * a `sleep` lets clients stop sending before the model ends; the sidecar serves all through it;
//! * an `httpGet` tells the model to end, so it must come when everything is answered;
//! * an `exec` can be run by the kubelet alone, so it must call the drain itself.

use k8s_openapi::api::core::v1::{Container, LifecycleHandler};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use sluice_config::names::pod as names;

use super::InjectionError;

/// Longest sleep that a pod can request, in seconds.
const MOST_SLEEP_SECONDS: i64 = 3600;

/// What the sidecar does for the template's own hook.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OwnHook {
    /// Nothing: there is no hook.
    None,
    /// A command that calls the drain itself, and stays.
    Drains,
    /// A wait before the drain, seconds.
    Sleep(i64),
    /// A call after the drain: its URL and its headers.
    Get(String, Vec<String>),
}

impl OwnHook {
    /// Reads `handler`, the hook of `container` at `field`.
    ///
    /// # Errors
    /// Names the field of a hook that the sidecar cannot do.
    pub(super) fn of(
        handler: &LifecycleHandler,
        container: &Container,
        field: &str,
    ) -> Result<Self, InjectionError> {
        if let Some(exec) = &handler.exec {
            let words: Vec<&String> = exec.command.iter().flatten().collect();
            if words.iter().any(|word| word.contains(names::DRAIN_URL)) {
                return Ok(Self::Drains);
            }
            let theirs = match words.as_slice() {
                // A shell's script is what the shell is to do after the drain.
                [shell, flag, script] if shell.ends_with("sh") && flag.as_str() == "-c" => (*script).clone(),
                _ => words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" "),
            };
            let instead = format!("curl -s \"${}\"; {theirs}", names::DRAIN_URL);
            let problem = format!(
                "the drain must come before it, and the sidecar cannot run a command in the model's container; let it \
                 call the drain first: command: {} (the variable is set with the sidecar; without curl in the image: \
                 wget -qO- -T 3600)",
                serde_json::Value::from(vec!["/bin/sh", "-c", &instead])
            );
            return Err(InjectionError::new(format!("{field}.exec"), problem));
        }
        if let Some(sleep) = &handler.sleep {
            if !(0..=MOST_SLEEP_SECONDS).contains(&sleep.seconds) {
                let problem = format!("is {}, but must be 0 to {MOST_SLEEP_SECONDS}", sleep.seconds);
                return Err(InjectionError::new(format!("{field}.sleep.seconds"), problem));
            }
            return Ok(Self::Sleep(sleep.seconds));
        }
        let Some(get) = &handler.http_get else {
            if handler.tcp_socket.is_some() {
                let problem = "is a hook that does nothing, in any version of Kubernetes; remove it";
                return Err(InjectionError::new(format!("{field}.tcpSocket"), problem));
            }
            return Ok(Self::None);
        };
        if get.scheme.as_deref() == Some("HTTPS") {
            let problem =
                "is HTTPS, but the sidecar calls the hook after the drain, by plain HTTP inside the pod";
            return Err(InjectionError::new(format!("{field}.httpGet.scheme"), problem));
        }
        if let Some(host) = get.host.as_ref().filter(|host| !host.is_empty()) {
            let problem = format!(
                "is {host:?}, but the sidecar calls the hook after the drain, inside the pod alone; remove it"
            );
            return Err(InjectionError::new(format!("{field}.httpGet.host"), problem));
        }
        let number = match &get.port {
            IntOrString::Int(number) => Some(*number),
            IntOrString::String(name) => {
                let mut ports = container.ports.iter().flatten();
                ports.find(|port| port.name.as_ref() == Some(name)).map(|port| port.container_port)
            }
        };
        let Some(number) = number.filter(|number| (1..=65535).contains(number)) else {
            let problem = "is no port of the container; write its number or the name of one of its ports";
            return Err(InjectionError::new(format!("{field}.httpGet.port"), problem));
        };
        let path = get.path.as_deref().unwrap_or_default();
        let slash = if path.starts_with('/') { "" } else { "/" };
        // What the sidecar would not start with.
        if http::uri::PathAndQuery::try_from(format!("{slash}{path}")).is_err() {
            let problem = format!("{path:?} is no path of a URL; write what is special in it as %XX");
            return Err(InjectionError::new(format!("{field}.httpGet.path"), problem));
        }
        for (index, header) in get.http_headers.iter().flatten().enumerate() {
            let is_name = http::HeaderName::try_from(header.name.as_str()).is_ok();
            if !is_name || http::HeaderValue::try_from(header.value.trim()).is_err() {
                let problem = "must be a header's name, and visible ASCII characters and spaces as its value";
                return Err(InjectionError::new(format!("{field}.httpGet.httpHeaders[{index}]"), problem));
            }
        }
        let headers = get.http_headers.iter().flatten();
        let headers = headers.map(|header| format!("{}: {}", header.name, header.value)).collect();
        Ok(Self::Get(format!("http://127.0.0.1:{number}{slash}{path}"), headers))
    }

    /// Returns by how many seconds the hook delays the end of the pod.
    pub(super) fn sleep_seconds(&self) -> i64 {
        match self {
            Self::Sleep(seconds) => *seconds,
            Self::None | Self::Drains | Self::Get(..) => 0,
        }
    }

    /// Returns the sidecar's arguments for the hook. A call may take `grace_seconds`, the template's own grace period.
    pub(super) fn arguments(&self, grace_seconds: i64) -> Vec<String> {
        match self {
            Self::None | Self::Drains => Vec::new(),
            Self::Sleep(seconds) => vec![format!("--drain-delay-ms={}", seconds * 1000)],
            Self::Get(url, headers) => {
                let timeout_ms = grace_seconds.clamp(1, MOST_SLEEP_SECONDS) * 1000;
                let headers = headers.iter().map(|header| format!("--after-drain-header={header}"));
                let arguments =
                    [format!("--after-drain={url}"), format!("--after-drain-timeout-ms={timeout_ms}")];
                // In arguments the kubelet replaces `$(NAME)` by a variable; in a hook's path it does not.
                let literal = |argument: String| argument.replace("$(", "$$(");
                arguments.into_iter().chain(headers).map(literal).collect()
            }
        }
    }
}

/// Quotes a word of a command for a shell.
fn quoted(word: &str) -> String {
    let is_plain = |letter: char| {
        letter.is_ascii_alphanumeric() || matches!(letter, '-' | '_' | '.' | '/' | '=' | ':' | ',')
    };
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

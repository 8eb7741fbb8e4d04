//! Condition `Ready`: how many replicas take traffic, what keeps the others from it, and what helps.
use crate::decision::{Condition, ConditionType};
use crate::input::Input;
use crate::standing::{Cause, Obstacle};

/// Maximum obstacles in the message.
const MAX_NAMED: usize = 3;

pub(super) fn ready(input: &Input) -> Condition {
    let (asked, ready) = (input.current.replicas, input.current.ready);
    let obstacles = &input.standing.obstacles;
    let count = match (asked, ready) {
        (0, _) => "No replica is asked for.".to_owned(),
        (1, 1) => "The only replica is ready.".to_owned(),
        _ if ready >= asked => format!("All {asked} replicas are ready."),
        (1, _) => "The only replica is not ready.".to_owned(),
        _ => format!("{ready} of {asked} replicas {} ready.", if ready == 1 { "is" } else { "are" }),
    };
    let sentences = obstacles.iter().take(MAX_NAMED).map(sentence);
    let mut message = std::iter::once(count).chain(sentences).collect::<Vec<_>>().join(" ");
    if obstacles.len() > MAX_NAMED {
        message.push_str(" There are further reasons.");
    }
    let reason = match obstacles.first() {
        _ if asked == 0 => "NoReplicas".to_owned(),
        _ if ready >= asked => "ReplicasReady".to_owned(),
        Some(first) if first.cause != Cause::Starting => format!("{:?}", first.cause),
        _ => "ReplicasStarting".to_owned(),
    };
    Condition { r#type: ConditionType::Ready, status: ready >= asked, reason, message }
}

/// Describes one obstacle: which pods, what, since when, and what helps.
fn sentence(one: &Obstacle) -> String {
    let Obstacle { cause, replicas, pod, container, detail, since } = one;
    let others = match (pod.as_str(), replicas) {
        ("", _) | (_, 0 | 1) => String::new(),
        (_, 2) => " and one other".to_owned(),
        (_, many) => format!(" and {} others", many - 1),
    };
    let who = match pod.as_str() {
        "" if *replicas == 1 => "One pod".to_owned(),
        "" => format!("{replicas} pods"),
        // On one machine a replica is a process, not a pod.
        name if *cause == Cause::CrashLoopBackOff && container.is_empty() => {
            format!("Replica {name}{others}")
        }
        pod => format!("Pod {pod}{others}"),
    };
    let many = *replicas > 1;
    let is = if many { "are" } else { "is" };
    let of = if container.is_empty() { String::new() } else { format!(" (container {container})") };
    let what = match cause {
        Cause::FailedCreate => "cannot be created".to_owned(),
        Cause::CrashLoopBackOff => format!("{is} in CrashLoopBackOff{of}"),
        Cause::ImagePullBackOff => format!("cannot pull an image{of}"),
        Cause::CreateContainerError => format!("cannot create a container{of}"),
        Cause::Unschedulable => format!("{is} Unschedulable"),
        Cause::SchedulingGated => {
            format!("{} for a slice at Sluice's scheduling gate", if many { "wait" } else { "waits" })
        }
        Cause::GatedByOthers => format!("{is} held by a scheduling gate of somebody else"),
        Cause::NodeNotReady => format!("{is} on a node that does not answer"),
        Cause::PodNotReady => format!("{} and {is} not ready", if many { "run" } else { "runs" }),
        Cause::Starting if pod.is_empty() => {
            format!("{} not been created yet", if many { "have" } else { "has" })
        }
        Cause::Starting => format!("{is} starting"),
    };
    let since = if since.is_empty() { String::new() } else { format!(" since {since}") };
    let detail = detail.trim_end_matches(['.', ' ']);
    let detail = if detail.is_empty() { String::new() } else { format!(": {detail}") };
    let help = help(one);
    let help = if help.is_empty() { String::new() } else { format!(" {help}") };
    format!("{who} {what}{since}{detail}.{help}")
}

/// Returns what to do about an obstacle; empty where waiting is enough.
fn help(one: &Obstacle) -> String {
    let Obstacle { pod, container, detail, .. } = one;
    match one.cause {
        Cause::FailedCreate if detail.contains("must specify") => {
            "Give these containers the resources that the ResourceQuota asks for, or the namespace a LimitRange with \
             defaults."
                .to_owned()
        }
        Cause::FailedCreate if detail.contains("quota") => {
            "Raise the ResourceQuota of the namespace, or ask for less in the pod template.".to_owned()
        }
        Cause::FailedCreate => "Change what the API server refuses in the pod template.".to_owned(),
        // Without a container the replica is a process of this machine.
        Cause::CrashLoopBackOff if container.is_empty() => "Its log says why.".to_owned(),
        Cause::CrashLoopBackOff => format!("`kubectl logs {pod} -c {container} --previous` says why."),
        Cause::ImagePullBackOff => {
            "Correct the name of the image, or give the pod imagePullSecrets for its registry.".to_owned()
        }
        Cause::CreateContainerError => "Create what its pod template names, or correct the name.".to_owned(),
        Cause::Unschedulable | Cause::PodNotReady => format!("`kubectl describe pod {pod}` says more."),
        Cause::SchedulingGated => {
            "It is placed when one is free; `kubectl sluice capacity` shows who holds them.".to_owned()
        }
        Cause::GatedByOthers => "Whoever has set that gate must remove it.".to_owned(),
        Cause::NodeNotReady => {
            "Kubernetes moves it after some minutes; bring the node back, or delete it.".to_owned()
        }
        Cause::Starting => String::new(),
    }
}

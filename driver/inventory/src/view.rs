//! Cluster prepared for questions: pools are gathered, allocated devices are charged, selectors can be evaluated.
use crate::cluster::Cluster;
use crate::ledger::{DevicePosition, Ledger};
use crate::pools::{NodeScope, Pool, PoolDevice, gather};
use crate::reader::Reader;
use crate::request::Request;
use crate::selector::Evaluator;
use sluice_config::names::devices as names;

/// Maximum problems that are reported.
const PROBLEMS: usize = 8;

pub(crate) struct View<'a> {
    pub(crate) pools: Vec<Pool<'a>>,
    /// Nodes that may get pods, in the order of their first pool; `[None]` if no device belongs to a node.
    pub(crate) nodes: Vec<Option<String>>,
    pub(crate) problems: Vec<String>,
    /// Reader of the reasons and problems.
    pub(crate) reader: Reader<'a>,
    cluster: &'a Cluster,
    evaluator: Evaluator,
}

/// Devices that a request allows by its selectors and tolerations, by pool and index.
pub(crate) struct Eligible(Vec<Vec<bool>>);

impl Eligible {
    pub(crate) fn is(&self, (pool, device): DevicePosition) -> bool {
        self.0[pool][device]
    }

    /// Iterates over the eligible devices of a pool.
    pub(crate) fn of_pool(&self, pool: usize) -> impl Iterator<Item = usize> + '_ {
        self.0[pool].iter().enumerate().filter(|(_, eligible)| **eligible).map(|(device, _)| device)
    }
}

impl<'a> View<'a> {
    /// Prepares the cluster for a reader who may see the names of all namespaces.
    pub(crate) fn new(cluster: &'a Cluster) -> (Self, Ledger) {
        Self::seen_from(cluster, None)
    }

    /// Prepares the cluster for the users of a namespace; `None` for a reader who may see all names.
    pub(crate) fn seen_from(cluster: &'a Cluster, namespace: Option<&'a str>) -> (Self, Ledger) {
        let reader = Reader(namespace);
        let pools = gather(&cluster.slices);
        let (ledger, problems) = Ledger::new(&pools, &cluster.claims, reader);
        let mut nodes: Vec<Option<String>> = Vec::new();
        let mut any_node = false;
        for place in pools.iter().flat_map(|p| &p.devices).map(|s| &s.nodes) {
            let NodeScope::Nodes(names) = place else { continue };
            any_node = true;
            for name in names {
                let node = Some(name.clone());
                if !cluster.unschedulable_nodes.contains(name)
                    && nodes.last() != Some(&node)
                    && !nodes.contains(&node)
                {
                    nodes.push(node);
                }
            }
        }
        if !any_node {
            nodes.push(None);
        }
        let mut view =
            Self { pools, nodes, problems: Vec::new(), reader, cluster, evaluator: Evaluator::new() };
        for problem in problems {
            view.problem(problem);
        }
        (view, ledger)
    }

    /// Evaluates a request on every device of every pool.
    pub(crate) fn eligible(&mut self, request: &Request<'_>) -> Eligible {
        let mut problems = Vec::new();
        let mut eligible = Vec::with_capacity(self.pools.len());
        for pool in &self.pools {
            let mut of_pool = Vec::with_capacity(pool.devices.len());
            for device in &pool.devices {
                let matches = self.evaluator.matches(&request.selectors, pool.driver, device.object);
                let shareable = device.object.allow_multiple_allocations == Some(true);
                let matches = matches.unwrap_or_else(|problem| {
                    problems.push(problem.to_string());
                    false
                });
                if matches && shareable {
                    problems.push(format!(
                        "device {} of pool {} allows several allocations, which is not supported yet; it is not counted",
                        device.object.name, pool.name
                    ));
                }
                of_pool.push(matches && !shareable && request.tolerates(device));
            }
            // The scheduler may give shares of such a device first, and their counters with them: what would then be left
            // for the others is not known.
            let is_shared = |device: &PoolDevice<'_>| {
                device.object.allow_multiple_allocations == Some(true) && !device.draws.is_empty()
            };
            if pool.devices.iter().any(is_shared) {
                for (matches, device) in of_pool.iter_mut().zip(&pool.devices) {
                    *matches &= device.draws.is_empty();
                }
            }
            eligible.push(of_pool);
        }
        for problem in problems {
            self.problem(problem);
        }
        Eligible(eligible)
    }

    /// Returns the devices that a node reaches, in the scheduler's order.
    pub(crate) fn order(&self, node: Option<&str>) -> Vec<DevicePosition> {
        let usable = self.pools.iter().enumerate().filter(|(_, pool)| pool.unusable.is_none());
        usable
            .flat_map(|(p, pool)| {
                let reachable = pool.devices.iter().enumerate().filter(move |(_, s)| s.nodes.reaches(node));
                reachable.map(move |(s, _)| (p, s))
            })
            .collect()
    }

    /// Returns why the devices of a pool are not used; `None` if they are.
    pub(crate) fn unusable(&self, pool: &Pool<'_>) -> Option<String> {
        if pool.unusable.is_some() {
            return pool.unusable.clone();
        }
        match pool.node() {
            Some(node) if self.cluster.unschedulable_nodes.contains(node) => {
                Some(format!("node {node} is unschedulable"))
            }
            _ if !pool.devices.is_empty() && pool.devices.iter().all(|s| s.nodes == NodeScope::Unknown) => {
                Some("it is bound to nodes by labels, which are not evaluated".to_owned())
            }
            _ => None,
        }
    }

    fn problem(&mut self, problem: String) {
        if self.problems.len() < PROBLEMS && !self.problems.contains(&problem) {
            self.problems.push(problem);
        }
    }
}

/// Returns the device's `profile` attribute in its driver's domain.
pub(crate) fn profile<'d>(pool: &Pool<'d>, device: usize) -> Option<&'d str> {
    let attributes = pool.devices[device].object.attributes.as_ref()?;
    let qualified = format!("{}/{}", pool.driver, names::PROFILE);
    attributes.get(names::PROFILE).or_else(|| attributes.get(&qualified))?.string.as_deref()
}

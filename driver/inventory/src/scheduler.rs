//! The scheduler's allocator: which devices the claims of a pod get on a node, as the scheduler of a release decides
//! it.
//!
//! | module | what is there |
//! |---|---|
//! | `node` | whether a node is one of those that a device can be used from |
//! | `pool` | pools as one node sees them: complete, valid, in order |
//! | `held` | devices and capacity that allocated claims hold |
//! | `request` | what claims ask for, checked |
//! | `share` | how much of a device's capacity a request consumes |
//! | `constraint` | `matchAttribute` and `distinctAttribute` |
//! | `error` | why the scheduler gives up on a pod |
//! | `attempt` | the search: first fit, with backtracking |
//! | `picks` | devices that it has picked so far, and what they take |
//!
//! It is compared with the scheduler's own code by `driver/inventory/oracle`.
mod attempt;
mod constraint;
mod error;
mod held;
mod node;
mod picks;
mod pool;
mod request;
mod share;

use k8s_openapi::api::core::v1::Node;
use k8s_openapi::api::resource::v1::{DeviceClass, ResourceClaim, ResourceSlice};
use std::cell::RefCell;
use std::collections::BTreeMap;

use crate::selector::Evaluator;
use attempt::{Attempt, Conditions};
pub use error::{Aborted, Reason};
pub use held::Held;
use request::Claim;

/// Features of the scheduler that decide about allocations, named as their feature gates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a feature gate of its own")]
pub struct Features {
    /// `DRAAdminAccess`.
    pub admin_access: bool,
    /// `DRAConsumableCapacity`.
    pub consumable_capacity: bool,
    /// `DRADeviceBindingConditions` and `DRAResourceClaimDeviceStatus`.
    pub device_binding: bool,
    /// `DRADeviceTaints`.
    pub device_taints: bool,
    /// `DRAFractionalCapacityRange`.
    pub fractional_capacity_range: bool,
    /// `DRAPartitionableDevices`.
    pub partitionable_devices: bool,
    /// `DRAPrioritizedList`.
    pub prioritized_list: bool,
}

impl Features {
    /// Kubernetes 1.37 with its defaults.
    pub const NEWEST: Self = Self {
        admin_access: true,
        consumable_capacity: true,
        device_binding: true,
        device_taints: true,
        fractional_capacity_range: true,
        partitionable_devices: true,
        prioritized_list: true,
    };
}

/// Cluster as the scheduler sees it while it places pods.
#[derive(Debug, Clone, Copy)]
pub struct Scheduler<'a> {
    /// The scheduler's features.
    pub features: Features,
    /// All ResourceSlices, in any order.
    pub slices: &'a [ResourceSlice],
    /// All DeviceClasses.
    pub classes: &'a [DeviceClass],
    /// Maximum number of devices that one attempt tries; after them it is undecided.
    pub steps: u32,
}

/// A device that a claim gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen<'a> {
    /// Index of the claim among those of the pod.
    pub claim: usize,
    /// `request`, or `request/subrequest`.
    pub request: String,
    /// Driver, pool and name of the device.
    pub device: DeviceId<'a>,
    /// Capacity that is consumed of a device that may be allocated several times, in nano-units; `None` where the
    /// device is the claim's alone.
    pub share: Option<BTreeMap<&'a str, i128>>,
    /// Whether the claim uses the device beside its holders, as admin access allows.
    pub admin_access: bool,
}

/// Driver, pool and name of a device.
pub type DeviceId<'a> = (&'a str, &'a str, &'a str);

/// Outcome of an attempt on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<'a> {
    /// The pod's claims get these devices.
    Fits(Vec<Chosen<'a>>),
    /// They do not fit on this node now.
    NoFit,
    /// The search was given up after [`Scheduler::steps`]; whether they fit is not known.
    Undecided,
}

/// Claims of one pod, ready to be placed on any node.
pub struct Pod<'a> {
    scheduler: Scheduler<'a>,
    claims: Vec<Claim<'a>>,
    // Parsed versions and quantities are kept between attempts.
    evaluator: RefCell<Evaluator>,
}

impl<'a> Scheduler<'a> {
    /// Reads the claims of a pod.
    ///
    /// # Errors
    /// A claim asks for something that the scheduler refuses on every node.
    pub fn pod(self, claims: impl IntoIterator<Item = &'a ResourceClaim>) -> Result<Pod<'a>, Aborted> {
        let claims = claims.into_iter().map(|claim| Claim::read(self.features, self.classes, claim));
        Ok(Pod {
            scheduler: self,
            claims: claims.collect::<Result<_, _>>()?,
            evaluator: RefCell::new(Evaluator::new()),
        })
    }
}

impl<'a> Pod<'a> {
    /// Tries the pod on a node, beside what is held.
    ///
    /// # Errors
    /// The scheduler would abort the attempt on all nodes, because of a selector that fails on a device, for instance.
    pub fn on_node(&self, node: &Node, held: &Held<'a>) -> Result<Outcome<'a>, Aborted> {
        let name = node.metadata.name.as_deref().unwrap_or_default();
        let pools = pool::gather(self.scheduler.features, self.scheduler.slices, node)
            .map_err(|reason| Aborted { at: format!("node {name}"), reason })?;
        let mut evaluator = self.evaluator.borrow_mut();
        let around = Conditions { features: self.scheduler.features, node, held };
        Attempt::new(around, self.scheduler.steps, &pools, &self.claims, &mut evaluator).run()
    }
}

//! Critical errors (XIDs) of the GPUs, from NVML's blocking call to async code: a thread waits for events, a
//! crossbeam channel carries them, and a notification wakes the task that counts them.

use std::sync::Arc;
use std::time::Duration;

use crossbeam::channel::{Receiver, TryRecvError, bounded};
use sluice_config::names::devices::full_device;
use sluice_inventory::Gpu;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::checkpoint::{Checkpoint, Instance};
use crate::gpus::{XidEvent, XidWatch};

/// Maximum events that wait for the counting task. Beyond that the thread blocks, and NVML queues events.
const QUEUE: usize = 256;
/// Duration of one wait for events, after which the thread checks whether it is still needed.
const WAIT: Duration = Duration::from_secs(2);

/// Receiver of events. Dropping it ends the thread.
pub(crate) struct XidFeed {
    events: Receiver<XidEvent>,
    arrived: Arc<Notify>,
}

/// Starts the thread that waits for events.
///
/// # Errors
/// Fails if the thread cannot be started.
pub(crate) fn watch(mut source: Box<dyn XidWatch>) -> std::io::Result<XidFeed> {
    let (sender, events) = bounded(QUEUE);
    let arrived = Arc::new(Notify::new());
    // The upgrade succeeds as long as the receiver exists.
    let listener = Arc::downgrade(&arrived);
    std::thread::Builder::new().name("nvml-events".to_owned()).spawn(move || {
        while let Some(arrived) = listener.upgrade() {
            match source.next(WAIT) {
                Ok(None) => {}
                Ok(Some(event)) => {
                    if sender.send(event).is_err() {
                        return;
                    }
                    arrived.notify_one();
                }
                Err(error) if error.reason.is_refusal() => {
                    tracing::warn!(%error, "Failed to watch for XIDs: critical errors of the GPUs are not reported.");
                    drop(sender);
                    arrived.notify_one();
                    return;
                }
                Err(error) => {
                    // One lost GPU must not hide the errors of the others.
                    tracing::warn!(%error, "Failed to wait for XIDs, retrying.");
                    std::thread::sleep(WAIT);
                }
            }
        }
    })?;
    Ok(XidFeed { events, arrived })
}

impl XidFeed {
    /// Returns the next event; `None` when the thread has ended.
    pub(crate) async fn next(&self) -> Option<XidEvent> {
        loop {
            match self.events.try_recv() {
                Ok(event) => return Some(event),
                Err(TryRecvError::Disconnected) => return None,
                Err(TryRecvError::Empty) => self.arrived.notified().await,
            }
        }
    }
}

/// Returns the name of the device that an event concerns: the claimed slice if it is known, else the GPU.
pub(crate) fn affected_device(event: &XidEvent, gpus: &[Gpu], checkpoint: &Checkpoint) -> String {
    let Some(uuid) = &event.gpu_uuid else { return "unknown".to_owned() };
    let devices = checkpoint.claims.values().flat_map(|record| &record.devices);
    let is_it = |instance: &Instance| match instance {
        Instance::Standing { gpu_instance, .. } => Some(*gpu_instance) == event.gpu_instance,
        Instance::Absent | Instance::Creating { .. } => false,
    };
    devices
        .filter(|device| device.gpu_uuid == *uuid)
        .find(|device| device.slice.as_ref().is_some_and(|slice| is_it(&slice.instance)))
        .map(|device| device.device.clone())
        .or_else(|| gpus.iter().find(|gpu| gpu.uuid == *uuid).map(|gpu| full_device(gpu.minor)))
        .unwrap_or_else(|| "unknown".to_owned())
}

/// Logs and counts events until `stop` or the end of the feed. Each event notifies `nudge`, because it may be the
/// last sign of a GPU.
pub(crate) async fn count(
    feed: XidFeed,
    gpus: impl Fn() -> Vec<Gpu>,
    checkpoint: impl Fn() -> Arc<Checkpoint>,
    nudge: Arc<Notify>,
    stop: CancellationToken,
) {
    loop {
        let event = tokio::select! {
            event = feed.next() => event,
            () = stop.cancelled() => return,
        };
        let Some(event) = event else { return };
        let device = affected_device(&event, &gpus(), &checkpoint());
        tracing::error!(device, xid = event.xid, "A GPU reported an XID (critical error).");
        crate::metrics::count_xid(&device);
        nudge.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoint::tests::record;
    use crate::gpus::fake::{GPU_UUID, gpu};
    use crate::gpus::{ComputeInstance, GpuError, Reason};

    fn event(gpu_instance: Option<u32>) -> XidEvent {
        XidEvent { gpu_uuid: Some(GPU_UUID.to_owned()), xid: 94, gpu_instance }
    }

    struct Script(Vec<XidEvent>);

    impl XidWatch for Script {
        fn next(&mut self, _: Duration) -> Result<Option<XidEvent>, GpuError> {
            let end = GpuError { call: "wait", gpu: GPU_UUID.to_owned(), reason: Reason::NotSupported };
            self.0.pop().map(Some).ok_or(end)
        }
    }

    #[tokio::test]
    async fn events_cross_from_the_thread_in_order_and_its_end_is_seen() {
        let feed = watch(Box::new(Script(vec![event(None), event(Some(3))]))).unwrap();
        assert_eq!(feed.next().await, Some(event(Some(3))));
        assert_eq!(feed.next().await, Some(event(None)));
        assert_eq!(feed.next().await, None);
    }

    #[test]
    fn an_event_in_a_claimed_slice_bears_its_name_and_any_other_the_gpus() {
        let mut checkpoint = Checkpoint::default();
        let mut record = record(4, 0);
        record.devices[0].slice.as_mut().unwrap().instance = Instance::Standing {
            boot_id: "b".to_owned(),
            gpu_instance: 11,
            compute: ComputeInstance { id: 0, uuid: "MIG-1".to_owned() },
        };
        checkpoint.claims.insert("a".to_owned(), record);
        let device = |event| affected_device(&event, &[gpu()], &checkpoint);
        assert_eq!(device(event(Some(11))), "gpu-0-mig-1g-5gb-4");
        assert_eq!(device(event(Some(7))), "gpu-0");
        assert_eq!(device(event(None)), "gpu-0");
        assert_eq!(device(XidEvent { gpu_uuid: None, ..event(None) }), "unknown");
    }
}

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::*;
use crate::{PoolView, SlotGrant, SlotPool, SlotUse};

const DEMAND: SlotDemand =
    SlotDemand { now_us: 0, waiting: 1, next: NextBatch { expected_us: 1000, start_by_us: 0 } };

/// A slot of the only model server, whose epoch now is in the cell.
#[derive(Debug)]
struct TestSlot {
    epoch: u64,
    now: Rc<Cell<u64>>,
}

#[derive(Debug, Clone)]
struct TestPool(Rc<RefCell<SlotPool>>);

impl Slot for TestSlot {
    type InFlight = ();
    type Pool = TestPool;

    fn server(&self) -> ServerEpoch {
        ServerEpoch { server: 0, epoch: self.epoch }
    }

    fn max_rows(&self) -> u32 {
        1
    }

    fn is_absent(&self) -> bool {
        false
    }

    fn slots_hint(&self) -> Option<u32> {
        None
    }

    fn is_current(&self) -> bool {
        self.epoch == self.now.get()
    }

    fn begin(&self) -> Option<()> {
        self.is_current().then_some(())
    }

    fn inflight(&self) -> usize {
        0
    }

    fn another(&self) -> Self {
        Self { epoch: self.epoch, now: Rc::clone(&self.now) }
    }
}

impl Pool for TestPool {
    type Grant = SlotGrant;

    fn exchange(&self, used: Option<(SlotGrant, SlotUse)>, request: &SlotRequest) -> Option<SlotGrant> {
        let mut pool = self.0.borrow_mut();
        pool.want(0, request);
        if let Some((grant, used)) = used {
            pool.give_back(grant, used);
        }
        pool.grant()
    }

    fn expect_end(&self, grant: &SlotGrant, end_us: u64) {
        self.0.borrow_mut().expect_end(grant, end_us);
    }

    fn give_back(&self, grant: SlotGrant, used: SlotUse) {
        self.0.borrow_mut().give_back(grant, used);
    }

    fn withdraw(&self) {
        self.0.borrow_mut().withdraw(0);
    }

    fn leave(&self) {
        self.0.borrow_mut().leave(0);
    }

    fn view(&self) -> PoolView {
        self.0.borrow().view(0)
    }

    fn is_same(&self, other: &Self) -> bool {
        Rc::ptr_eq(&self.0, &other.0)
    }

    fn has_granted(&self, _: &SlotGrant) -> bool {
        true
    }
}

fn send(servers: &mut ServerSet<TestSlot>) -> u64 {
    let taken = servers.take(&Bound::default(), DEMAND).unwrap();
    servers.send(taken, Predicted { class: None, started_us: 0, end_us: 1000 }).0
}

#[test]
fn a_batch_is_booked_at_the_epoch_that_it_was_sent_to() {
    let (now, pool) = (Rc::new(Cell::new(1)), TestPool(Rc::new(RefCell::new(SlotPool::new(0)))));
    let slot = |epoch| TestSlot { epoch, now: Rc::clone(&now) };
    let mut servers = ServerSet::new(2, 1);
    servers.add(slot(1), pool.clone());
    let before = send(&mut servers);
    now.set(2);
    servers.add(slot(2), pool.clone());
    let after = send(&mut servers);
    assert_eq!(servers.running(), 2);
    assert_eq!(servers.room().slots, 3, "two of the new epoch, and the one that still runs at the old one");
    // The old one breaks: that says nothing of the new epoch, and the old one is forgotten.
    servers.ended(before, None, 1, 1000);
    servers.settle(&Bound::default(), None);
    servers.drop_void();
    assert_eq!((servers.running(), servers.room().slots), (1, 2));
    servers.ended(after, None, 1, 1000);
    assert_eq!(servers.room().slots, 0, "now it is the new epoch that is in doubt");
}

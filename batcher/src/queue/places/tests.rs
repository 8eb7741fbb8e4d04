use super::*;
use crate::clock::Clock;
use crate::settings::{Live, Settings};
use crate::upstream::discovery::{Profile, Spoken};
use crate::with_settings;

const WISH: Wish = Wish { now_us: 0, waiting: 1, next: NextBatch { expected_us: 1000, start_by_us: 0 } };

fn send(places: &mut Places) -> u64 {
    let taken = places.take(WISH).unwrap();
    places.send(taken, Sent { class: None, started_us: 0, end_us: 1000 }).0
}

#[tokio::test]
async fn a_batch_is_booked_at_the_epoch_that_it_was_sent_to() {
    let settings = Live::new(with_settings!(Settings::default(), batching.slots_per_upstream = 2));
    let handle = Arc::new(ModelHandle::new("m".into(), "m", settings, Clock::start()));
    let (upstream, epoch, _reports) = Upstream::open_at(([127, 0, 0, 1], 1).into());
    let profile = Arc::new(Profile::unknown(Spoken::default()));
    let slot = |epoch| Slot {
        upstream: Arc::clone(&upstream),
        epoch,
        profile: Arc::clone(&profile),
        connections: Default::default(),
    };
    let mut places = Places::new(handle);
    places.add(slot(epoch));
    let before = send(&mut places);
    places.add(slot(upstream.reopen().unwrap()));
    let after = send(&mut places);
    assert_eq!(places.running(), 2);
    assert_eq!(places.room().slots, 3, "two of the new epoch, and the one that still runs at the old one");
    // The old one breaks: that says nothing of the new epoch, and the old one is forgotten.
    places.ended(before, None, 1, 1000);
    places.settle(None);
    places.drop_void();
    assert_eq!((places.running(), places.room().slots), (1, 2));
    places.ended(after, None, 1, 1000);
    assert_eq!(places.room().slots, 0, "now it is the new epoch that is in doubt");
}

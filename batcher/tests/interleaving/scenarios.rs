//! What happens around one queue. The owner's loop is that of `queue/owner.rs`, with serving made trivial.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use futures::FutureExt as _;
use loom::thread;

use super::mailbox::Mailbox;

/// What became of one request. Not under control: it is what the test itself sees.
#[derive(Debug, Default)]
struct Client {
    served: AtomicUsize,
    told: AtomicUsize,
    left: AtomicBool,
}

impl Client {
    fn heard(&self) -> usize {
        self.served.load(Ordering::SeqCst) + self.told.load(Ordering::SeqCst)
    }
}

/// A request like an `Entry`: if it is dropped without an answer, its client is notified.
#[derive(Debug)]
struct Request(Arc<Client>);

impl Request {
    fn serve(self) {
        self.0.served.fetch_add(1, Ordering::SeqCst);
    }
}

impl Drop for Request {
    fn drop(&mut self) {
        if self.0.served.load(Ordering::SeqCst) == 0 {
            self.0.told.fetch_add(1, Ordering::SeqCst);
        }
    }
}

#[derive(Debug, PartialEq)]
enum Message {
    Slot,
    Retire,
}

type Queue = Arc<Mailbox<Request, Message>>;

fn clients<const N: usize>() -> [Arc<Client>; N] {
    std::array::from_fn(|_| Arc::default())
}

fn submit(queue: &Queue, client: &Arc<Client>) {
    assert!(queue.submit(Request(Arc::clone(client)), drop).is_ok(), "it is not full");
}

/// Takes what comes until `enough` requests were taken or it is retired.
fn own(queue: &Queue, mut slots: usize, enough: usize) {
    let mut taken = 0;
    loop {
        let mut retired = false;
        while let Some(message) = queue.next_message() {
            match message {
                Message::Slot => slots += 1,
                Message::Retire => retired = true,
            }
        }
        while slots > 0
            && let Some(request) = queue.next_item()
        {
            taken += 1;
            if !request.0.left.load(Ordering::SeqCst) {
                request.serve();
            }
        }
        if retired || taken >= enough {
            break;
        }
        if queue.listen(slots > 0) {
            continue;
        }
        queue.woken().now_or_never().expect("controlled waiting blocks its thread");
    }
    queue.retire(drop);
}

pub fn requests_wake_the_owner() {
    let queue: Queue = Arc::new(Mailbox::new(4));
    let [one, two] = clients();
    let sender = {
        let (queue, one, two) = (Arc::clone(&queue), one.clone(), two.clone());
        thread::spawn(move || {
            submit(&queue, &one);
            submit(&queue, &two);
        })
    };
    own(&queue, 1, 2);
    sender.join().unwrap();
    assert_eq!([one.heard(), two.heard()], [1, 1]);
}

pub fn a_slot_comes_while_requests_do() {
    let queue: Queue = Arc::new(Mailbox::new(4));
    let [client] = clients();
    let sender = {
        let (queue, client) = (Arc::clone(&queue), client.clone());
        thread::spawn(move || submit(&queue, &client))
    };
    let upstream = {
        let queue = Arc::clone(&queue);
        thread::spawn(move || queue.tell(Message::Slot, drop))
    };
    own(&queue, 0, 1);
    sender.join().unwrap();
    upstream.join().unwrap();
    assert_eq!(client.served.load(Ordering::SeqCst), 1);
}

pub fn retired_while_requests_come() {
    let queue: Queue = Arc::new(Mailbox::new(4));
    let [stays, leaves] = clients();
    let sender = {
        let (queue, stays, leaves) = (Arc::clone(&queue), stays.clone(), leaves.clone());
        thread::spawn(move || {
            submit(&queue, &leaves);
            leaves.left.store(true, Ordering::SeqCst);
            submit(&queue, &stays);
        })
    };
    let stopper = {
        let queue = Arc::clone(&queue);
        thread::spawn(move || {
            queue.tell(Message::Slot, drop);
            queue.tell(Message::Retire, drop);
        })
    };
    own(&queue, 0, usize::MAX);
    sender.join().unwrap();
    stopper.join().unwrap();
    for client in [stays, leaves] {
        assert!(client.heard() > 0, "a client never hears of its request");
        assert_eq!(client.heard(), 1, "a client hears twice");
    }
    assert_eq!(queue.next_message(), None, "a message stays behind");
}

pub fn more_requests_than_places() {
    let queue: Queue = Arc::new(Mailbox::new(1));
    let [one, two] = clients();
    let senders = [&one, &two].map(|client| {
        let (queue, client) = (Arc::clone(&queue), Arc::clone(client));
        thread::spawn(move || {
            let refused = queue.submit(Request(client), drop).is_err();
            queue.tell(if refused { Message::Retire } else { Message::Slot }, drop);
        })
    });
    own(&queue, 1, 2);
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    assert_eq!([one.heard(), two.heard()], [1, 1], "served, or refused and dropped by its sender");
}

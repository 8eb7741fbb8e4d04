//! The hand-over from request tasks to a queue's owner under every interleaving, weak memory orders included:
//! requests, clients that leave, messages, and the owner's end. The file under test is the very file that the
//! program is built from, on primitives whose schedule is under control.
//!
//! The same scenarios must find the mistakes that such code is made with: `without_fence` and `without_recheck` are
//! the same file on primitives that lack one property.

// Every module is private to this binary, and all of it is test code; no variant uses all of the mailbox.
#![allow(unreachable_pub, dead_code, clippy::unwrap_used, clippy::duplicate_mod)]

mod controlled;
mod sound;
mod without_fence;
mod without_recheck;

use controlled::explore;

#[test]
fn an_owner_that_sleeps_is_woken_by_every_request() {
    explore(sound::scenarios::requests_wake_the_owner);
}

#[test]
fn an_owner_that_waits_for_a_slot_finds_the_requests_that_came_meanwhile() {
    explore(sound::scenarios::a_slot_comes_while_requests_do);
}

#[test]
fn every_client_hears_exactly_once_whatever_leaves_or_ends_meanwhile() {
    explore(sound::scenarios::retired_while_requests_come);
}

#[test]
fn a_full_ring_gives_requests_back() {
    explore(sound::scenarios::more_requests_than_places);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_fence_a_request_can_sleep_for_ever() {
    explore(without_fence::scenarios::requests_wake_the_owner);
}

#[test]
#[should_panic(expected = "never hears")]
fn without_the_fence_a_client_can_be_forgotten_when_the_owner_ends() {
    explore(without_fence::scenarios::retired_while_requests_come);
}

#[test]
#[should_panic(expected = "deadlock")]
fn without_the_second_look_a_request_can_sleep_for_ever() {
    explore(without_recheck::scenarios::requests_wake_the_owner);
}

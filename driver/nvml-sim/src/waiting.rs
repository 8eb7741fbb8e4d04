//! Event sets: which events a process waits for, and which it has received.

use crate::state::{Event, State};

/// Event set of this process.
#[derive(Debug, Default)]
pub(crate) struct EventSet {
    /// Sequence number up to which events were received or skipped.
    seen: u64,
    registrations: Vec<Registration>,
}

#[derive(Debug)]
struct Registration {
    gpu_uuid: String,
    event_types: u64,
    /// Sequence number of the last event before the registration.
    since: u64,
}

impl EventSet {
    /// Registers for events of these types (bits) of a GPU from now on.
    pub(crate) fn register(&mut self, state: &State, gpu_uuid: &str, event_types: u64) {
        match self.registrations.iter_mut().find(|known| known.gpu_uuid == gpu_uuid) {
            Some(known) => known.event_types |= event_types,
            None => {
                let gpu_uuid = gpu_uuid.to_owned();
                self.registrations.push(Registration { gpu_uuid, event_types, since: state.next_event });
            }
        }
    }

    /// Returns the next event that the set waits for, and marks it as received.
    pub(crate) fn next(&mut self, state: &State) -> Option<Event> {
        let wanted = |event: &&Event| {
            event.sequence > self.seen
                && self.registrations.iter().any(|registration| {
                    registration.gpu_uuid == event.gpu_uuid
                        && registration.event_types & event.event_type != 0
                        && event.sequence > registration.since
                })
        };
        let event = state.events.iter().find(wanted).cloned();
        self.seen = event.as_ref().map_or(state.next_event, |event| event.sequence).max(self.seen);
        event
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const XID: u64 = 8;

    #[test]
    fn each_wanted_event_is_seen_once_and_in_order() {
        let mut state = State::default();
        let mut set = EventSet::default();
        state.push_event("a", XID, 1, (0, 0));
        set.register(&state, "a", XID);
        assert_eq!(set.next(&state), None, "it happened before the registration");
        state.push_event("a", XID, 2, (0, 0));
        state.push_event("b", XID, 3, (0, 0));
        state.push_event("a", 1, 4, (0, 0));
        state.push_event("a", XID, 5, (0, 0));
        let seen: Vec<_> = std::iter::from_fn(|| set.next(&state)).take(9).map(|event| event.data).collect();
        assert_eq!(seen, [2, 5]);
    }
}

//! Requests one of which may have broken, stalled or overtaxed a call: they are sent again in parts, and apart from all
//! others, until only those to blame have failed.

use std::collections::VecDeque;

/// Way in which a call of several requests failed, where any of them may be to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The call failed at once, or it is only slow: halves find the request to blame with the fewest calls.
    Broke,
    /// The call took all the time that a call may take, and so will every further call with the request to blame:
    /// eighths find it with fewer such calls.
    TimedOut,
}

impl Fault {
    /// Returns the number of parts in which the requests of the failed call are sent again.
    fn parts(self) -> usize {
        match self {
            Self::Broke => 2,
            Self::TimedOut => 8,
        }
    }
}

/// Groups of suspects that wait for their next call, in order. A group is sent as one call, which it shares with no
/// other request. A group whose call fails comes back in p parts (see [`Fault`]), one whose call succeeds does not come
/// back. So with n requests of which k fail whatever call they are in, there are at most p·k·⌈log_p n⌉ further calls,
/// and each request is in at most ⌈log_p n⌉ of them before it is alone.
///
/// The number of groups on trial (in flight) at a time starts at one, doubles with each call that succeeds and is one
/// again after a call that fails. So a request that kills the model server fails few other suspects with it, and after
/// a server that died by itself all are soon served. A suspect that has failed with others twice is on trial by itself.
#[derive(Debug)]
pub struct Suspects<T> {
    groups: VecDeque<Group<T>>,
    on_trial: Vec<Trial>,
    /// Number of groups that may be on trial at a time.
    most: usize,
}

#[derive(Debug)]
struct Group<T> {
    members: Vec<T>,
    by_itself: bool,
}

#[derive(Debug, Clone, Copy)]
struct Trial {
    call: u64,
    by_itself: bool,
}

/// Most groups on trial at a time: more than there are slots anywhere.
const MOST_ON_TRIAL: usize = 1 << 12;

impl<T> Default for Suspects<T> {
    fn default() -> Self {
        Self { groups: VecDeque::new(), on_trial: Vec::new(), most: 1 }
    }
}

impl<T> Suspects<T> {
    /// Takes in the requests of a call that failed: several in parts, one as it is. `by_itself`: the single request is
    /// on trial with no other suspect in flight.
    pub fn accuse(&mut self, mut members: Vec<T>, fault: Fault, by_itself: bool) {
        let by_itself = by_itself && members.len() == 1;
        let most = members.len().div_ceil(fault.parts());
        while !members.is_empty() {
            let rest = members.split_off(most.min(members.len()));
            self.groups.push_back(Group { members, by_itself });
            members = rest;
        }
    }

    /// Takes back a group that could not be sent: it is the next one, undivided.
    pub fn put_back(&mut self, members: Vec<T>, by_itself: bool) {
        if !members.is_empty() {
            self.groups.push_front(Group { by_itself: by_itself && members.len() == 1, members });
        }
    }

    /// Returns whether a group waits.
    pub fn are_waiting(&self) -> bool {
        !self.groups.is_empty()
    }

    /// Returns whether a group may be sent now.
    pub fn may_go(&self) -> bool {
        self.groups.front().is_some_and(|next| {
            let has_room = !next.by_itself && self.on_trial.len() < self.most;
            self.on_trial.is_empty() || (has_room && !self.on_trial.iter().any(|trial| trial.by_itself))
        })
    }

    /// Takes out the next group, to be sent as the call of this number. A group that does not fit into a call is halved
    /// until it does. `None` where no group may be sent now.
    pub fn send(&mut self, call: u64, fits: impl Fn(&[T]) -> bool) -> Option<Vec<T>> {
        if !self.may_go() {
            return None;
        }
        let Group { mut members, by_itself } = self.groups.pop_front()?;
        while members.len() > 1 && !fits(&members) {
            let second = members.split_off(members.len().div_ceil(2));
            self.groups.push_front(Group { members: second, by_itself });
        }
        self.on_trial.push(Trial { call, by_itself });
        Some(members)
    }

    /// Notes that a call has ended. A call that should have ended long ago counts as one without success.
    pub fn ended(&mut self, call: u64, has_succeeded: bool) {
        let before = self.on_trial.len();
        self.on_trial.retain(|trial| trial.call != call);
        if self.on_trial.len() < before {
            self.most = if has_succeeded { (self.most * 2).min(MOST_ON_TRIAL) } else { 1 };
        }
    }

    /// Returns the suspects that wait, in order.
    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.groups.iter().flat_map(|group| &group.members)
    }

    /// Takes out the waiting suspects for which `condition` holds.
    pub fn take_out(&mut self, condition: impl Fn(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for group in &mut self.groups {
            taken.extend(group.members.extract_if(.., |suspect| condition(suspect)));
        }
        self.groups.retain(|group| !group.members.is_empty());
        taken
    }
}

//! How much room one model has at its model servers.

use super::outside::{Pool, Slot};
use super::server::Server;

/// Slots of all model servers together, as one model sees them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Room {
    /// Slots that the model could use, those in use included.
    pub(super) slots: u32,
    /// Slots that it could use now.
    pub(super) free: u32,
    /// When the first slot in use is expected to be free for the model, after the turns of others, microseconds; 0 where
    /// none is in use.
    pub(super) first_end_us: u64,
    /// Part of these slots' time, 0 to 1, that the model gets while the others that use them now go on.
    pub(super) share: f64,
}

impl Room {
    /// Adds up the room at all model servers. `slots_per_server`: as set; 0: as found out.
    pub(super) fn of<'a, S: Slot + 'a>(
        servers: impl Iterator<Item = &'a Server<S>>,
        slots_per_server: u32,
    ) -> Self {
        let mut room = Self { slots: 0, free: 0, first_end_us: 0, share: 1.0 };
        let mut own_slots = 0.0;
        let mut first_end_us = u64::MAX;
        for server in servers {
            let slots = server.counted_slots(slots_per_server);
            room.slots += slots;
            if !server.is_good() {
                own_slots += f64::from(slots);
                first_end_us = server.ends_us().fold(first_end_us, u64::min);
                continue;
            }
            let view = server.pool.view();
            own_slots += f64::from(slots) * view.share;
            room.free += slots.saturating_sub(view.running);
            let first = server.ends_us().chain(view.first_end_us).min();
            let turn_us = view.before_turn_us / u64::from(slots.max(1));
            first_end_us = first_end_us.min(first.map_or(u64::MAX, |end_us| end_us.saturating_add(turn_us)));
        }
        room.first_end_us = if first_end_us == u64::MAX { 0 } else { first_end_us };
        if room.slots > 0 {
            room.share = own_slots / f64::from(room.slots);
        }
        room
    }
}

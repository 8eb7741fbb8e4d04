//! What to admit, when to cut a batch, whom to drop; the service curve (pure).

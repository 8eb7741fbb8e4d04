//! Load, scenarios, reports and the reference model server.

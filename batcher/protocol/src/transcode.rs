//! JSON text ↔ little-endian bytes.

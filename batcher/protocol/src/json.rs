//! Reading and writing JSON as text: values are found, counted and copied, but numbers are never parsed.

pub(crate) mod items;
pub(crate) mod layout;
pub(crate) mod lexer;
pub(crate) mod nonfinite;
pub(crate) mod write;

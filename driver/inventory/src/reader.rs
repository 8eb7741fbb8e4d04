//! Readers of reasons: a tenant may see only names of its own namespace.

/// Reader of a text, by namespace; `None` for a reader who may see all names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) Option<&'a str>);

impl Reader<'_> {
    /// Returns whether the reader may see this `namespace/name`.
    pub(crate) fn may_know(self, holder: &str) -> bool {
        let in_namespace =
            |namespace: &str| holder.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('/'));
        self.0.is_none_or(in_namespace)
    }

    /// Returns the name, or a text that stands for it.
    pub(crate) fn name(self, holder: &str) -> &str {
        if self.may_know(holder) { holder } else { "another namespace" }
    }
}

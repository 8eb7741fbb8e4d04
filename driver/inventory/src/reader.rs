//! Whom words are for: a tenant reads the names of its own namespace alone.

/// Who reads, by namespace; `None` = somebody who may know all names.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Reader<'a>(pub(crate) Option<&'a str>);

impl Reader<'_> {
    /// Whether the reader may know this `namespace/name`.
    pub(crate) fn may_know(self, holder: &str) -> bool {
        let in_namespace =
            |namespace: &str| holder.strip_prefix(namespace).is_some_and(|rest| rest.starts_with('/'));
        self.0.is_none_or(in_namespace)
    }

    /// The name, or what stands for it.
    pub(crate) fn name(self, holder: &str) -> &str {
        if self.may_know(holder) { holder } else { "another namespace" }
    }
}

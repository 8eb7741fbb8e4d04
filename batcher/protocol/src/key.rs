//! With which other requests a request may share a batch.

use std::sync::Arc;

/// What must be equal for two requests to share a batch: model, explicit version, the set of inputs (name, datatype, all
/// dimensions but 0, parameters), request parameters other than those that we consume, and the selected outputs with
/// their parameters. The client's form, the order of inputs, the id and the number of rows are not part of it.
///
/// Cheap to clone; a canonical text of the above, so that equality is exact and never rests on a hash alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MergeKey(Arc<[u8]>);

//! The one write that lifts a gate.

use json_patch::jsonptr::PointerBuf;
use json_patch::{Patch, PatchOperation, RemoveOperation, TestOperation};
use serde_json::Value;

/// Removes `gates` (position and name) from the pod of that UID, if each is still where it was seen: no other
/// pod of the same name, and no gate of somebody else, is ever touched.
pub(crate) fn lift_patch(uid: &str, gates: &[(usize, String)]) -> Patch {
    let test = |path, value: &str| {
        PatchOperation::Test(TestOperation { path, value: Value::String(value.to_owned()) })
    };
    let mut operations = vec![test(PointerBuf::from_tokens(["metadata", "uid"]), uid)];
    let at = |position: &usize| position.to_string();
    for (position, name) in gates {
        let path = PointerBuf::from_tokens(["spec", "schedulingGates", &at(position), "name"]);
        operations.push(test(path, name));
    }
    // From the back, so that the positions before stay what they were.
    for (position, _) in gates.iter().rev() {
        let path = PointerBuf::from_tokens(["spec", "schedulingGates", &at(position)]);
        operations.push(PatchOperation::Remove(RemoveOperation { path }));
    }
    Patch(operations)
}

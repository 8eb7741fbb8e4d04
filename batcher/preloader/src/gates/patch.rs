//! The JSON patch that lifts a gate.

use json_patch::jsonptr::PointerBuf;
use json_patch::{Patch, PatchOperation, RemoveOperation, TestOperation};
use serde_json::Value;

/// Returns the patch that removes `gates` (position and name) from the pod with that UID, if each is still where it was
/// seen: it never changes another pod of the same name, nor a foreign gate.
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

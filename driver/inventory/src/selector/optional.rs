//! `a.?b`, as CEL defines it: nothing where there is no field `b`.
//!
//! The `cel` crate (0.13) fails there instead, or takes the field for one that is there. It reads `a[?"b"]`, which means
//! the same, as it should.
use kube_cel::cel::common::ast::{EntryExpr, Expr, operators};
use kube_cel::cel::parser::Expression;

/// Writes each `a.?b` of an expression as `a[?"b"]`.
pub(super) fn by_index(expression: &mut Expression) {
    match &mut expression.expr {
        Expr::Call(call) => {
            if call.func_name == operators::OPT_SELECT {
                operators::OPT_INDEX.clone_into(&mut call.func_name);
            }
            call.target.iter_mut().for_each(|target| by_index(target));
            call.args.iter_mut().for_each(by_index);
        }
        Expr::Comprehension(comprehension) => {
            for part in [
                &mut comprehension.iter_range,
                &mut comprehension.accu_init,
                &mut comprehension.loop_cond,
                &mut comprehension.loop_step,
                &mut comprehension.result,
            ] {
                by_index(part);
            }
        }
        Expr::List(list) => list.elements.iter_mut().for_each(by_index),
        Expr::Map(map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    by_index(&mut entry.key);
                    by_index(&mut entry.value);
                }
            }
        }
        Expr::Select(select) => by_index(&mut select.operand),
        Expr::Struct(_) | Expr::Ident(_) | Expr::Literal(_) | Expr::Unspecified => {}
    }
}

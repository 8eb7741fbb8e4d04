//! Label selectors as scale subresources write them: one line of text, as `kubectl -l` takes it (pure).

use anyhow::anyhow;
use kube::core::{Expression, Selector};

/// Reads `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
///
/// # Errors
/// Names the part that is not understood.
pub(super) fn parse(text: &str) -> anyhow::Result<Selector> {
    parts(text)
        .into_iter()
        .map(expression)
        .collect::<Result<Vec<_>, _>>()
        .map(|all| all.into_iter().collect())
}

/// Splits at the commas that are not inside parentheses.
fn parts(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut depth) = (0, 0_u32);
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts.retain(|part| !part.is_empty());
    parts
}

fn expression(part: &str) -> anyhow::Result<Expression> {
    if let Some(key) = part.strip_prefix('!') {
        return Ok(Expression::DoesNotExist(word(key, part)?));
    }
    if let Some((key, value)) = part.split_once("!=") {
        return Ok(Expression::NotEqual(word(key, part)?, value.trim().to_owned()));
    }
    if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        return Ok(Expression::Equal(word(key, part)?, value.trim().to_owned()));
    }
    if let Some((head, values)) = part.split_once('(') {
        let values = values.strip_suffix(')').ok_or_else(|| not_understood(part))?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        return match head.split_whitespace().collect::<Vec<_>>()[..] {
            [key, "in"] => Ok(Expression::In(key.to_owned(), values)),
            [key, "notin"] => Ok(Expression::NotIn(key.to_owned(), values)),
            _ => Err(not_understood(part)),
        };
    }
    Ok(Expression::Exists(word(part, part)?))
}

fn word(text: &str, part: &str) -> anyhow::Result<String> {
    let text = text.trim();
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if text.is_empty() || !text.chars().all(fits) { Err(not_understood(part)) } else { Ok(text.to_owned()) }
}

fn not_understood(part: &str) -> anyhow::Error {
    anyhow!("{part:?} is no part of a label selector such as app=bert,tier in (gpu,cpu)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube::core::SelectorExt;
    use std::collections::BTreeMap;

    fn selects(selector: &str, labels: &[(&str, &str)]) -> bool {
        let labels: BTreeMap<String, String> =
            labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        parse(selector).unwrap().matches(&labels)
    }

    #[test]
    fn every_form_is_read() {
        let labels = [("app", "bert"), ("example.com/tier", "gpu")];
        for selector in [
            "app=bert",
            "app==bert,example.com/tier=gpu",
            "app!=other",
            "app in (bert,other)",
            "app in (bert, other),example.com/tier notin (cpu)",
            "app",
            "!absent",
        ] {
            assert!(selects(selector, &labels), "{selector}");
        }
        for selector in ["app=other", "app!=bert", "app in (a,b)", "app notin (bert)", "absent", "!app"] {
            assert!(!selects(selector, &labels), "{selector}");
        }
    }

    #[test]
    fn what_is_not_understood_is_named() {
        for wrong in ["app in (bert", "app ni (bert)", "a b", "=x", "app>3"] {
            assert!(
                parse(&format!("x=y,{wrong}")).unwrap_err().to_string().contains("label selector"),
                "{wrong}"
            );
        }
    }

    #[test]
    fn an_empty_selector_selects_everything_which_its_user_must_refuse() {
        assert!(parse("").unwrap().selects_all());
    }
}

//! Parses query strings of the admin paths, strictly: a probe with a misspelt parameter must fail, not succeed.

use std::borrow::Cow;

/// Parameters of `/drain`.
#[derive(Debug, PartialEq, Eq, Default)]
pub(super) struct DrainQuery<'a> {
    pub(super) deadline_ms: Option<u64>,
    pub(super) token: Option<&'a str>,
}

impl<'a> DrainQuery<'a> {
    pub(super) fn parse(query: &'a str) -> Result<Self, String> {
        let mut parsed = Self::default();
        for pair in pairs(query) {
            match pair.split_once('=') {
                Some(("deadline_ms", value)) => {
                    let number = value.parse().map_err(|_| {
                        format!("deadline_ms={value}: must be a whole number of milliseconds")
                    })?;
                    parsed.deadline_ms = Some(number);
                }
                Some(("token", value)) => parsed.token = Some(value),
                // Not echoed: it may be a misspelt token.
                _ => return Err("unknown parameter; there are deadline_ms and token".to_owned()),
            }
        }
        Ok(parsed)
    }
}

/// Parses the parameter `path` of a probe: the path to request from the model server. `None` without the parameter.
pub(super) fn path(query: &str) -> Result<Option<Cow<'_, str>>, String> {
    let mut path = None;
    for pair in pairs(query) {
        match pair.split_once('=') {
            Some(("path", value)) => path = Some(decode(value)?),
            _ => return Err(format!("unknown parameter {pair:?}; there is path")),
        }
    }
    match path {
        Some(path) if !path.starts_with('/') => Err(format!("path={path}: must begin with /")),
        path => Ok(path),
    }
}

/// Parses the parameter `id` of `/explain`. `None` without the parameter.
pub(super) fn id(query: &str) -> Result<Option<Cow<'_, str>>, String> {
    let mut id = None;
    for pair in pairs(query) {
        match pair.split_once('=') {
            Some(("id", value)) => id = Some(decode(value)?),
            _ => return Err(format!("unknown parameter {pair:?}; there is id")),
        }
    }
    Ok(id)
}

fn pairs(query: &str) -> impl Iterator<Item = &str> {
    query.split('&').filter(|pair| !pair.is_empty())
}

fn decode(value: &str) -> Result<Cow<'_, str>, String> {
    if !value.contains('%') {
        return Ok(Cow::Borrowed(value));
    }
    let wrong = || format!("{value}: % must be followed by two hexadecimal digits");
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.bytes();
    while let Some(byte) = rest.next() {
        let byte = if byte == b'%' {
            let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16)).ok_or_else(wrong);
            u8::try_from(digit()? * 16 + digit()?).map_err(|_| wrong())?
        } else {
            byte
        };
        bytes.push(byte);
    }
    String::from_utf8(bytes).map(Cow::Owned).map_err(|_| format!("{value}: is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drain_query_is_read_strictly() {
        assert_eq!(DrainQuery::parse(""), Ok(DrainQuery::default()));
        let both = DrainQuery { deadline_ms: Some(250), token: Some("abc") };
        assert_eq!(DrainQuery::parse("deadline_ms=250&token=abc"), Ok(both));
        assert!(DrainQuery::parse("deadline_ms=soon").unwrap_err().contains("milliseconds"));
        let error = DrainQuery::parse("tokn=secret").unwrap_err();
        assert!(error.contains("there are deadline_ms and token") && !error.contains("secret"), "{error}");
    }

    #[test]
    fn a_path_may_be_encoded() {
        assert_eq!(path("").unwrap(), None);
        assert_eq!(path("path=/healthz").unwrap().unwrap(), "/healthz");
        assert_eq!(path("path=%2Fhealth%3Fdeep%3D1").unwrap().unwrap(), "/health?deep=1");
        for wrong in ["path=%2", "path=%zz", "path=health", "paht=/x", "path=%ff/"] {
            assert!(path(wrong).is_err(), "{wrong}");
        }
    }
}

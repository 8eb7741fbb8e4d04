//! Headers with which the batcher marks its own requests (`x-sluice-…`): clients must not set them.

use http::{HeaderMap, HeaderName, HeaderValue, Request, Version, header};

use crate::settings::Settings;

/// Prefix of these headers.
const OURS: &str = "x-sluice-";

/// Removes the headers that clients must not set: all that begin with `x-sluice-` except those that the settings ask
/// clients for. `_` counts as `-`, because servers that pass headers in environment variables (CGI, WSGI) confuse the
/// two.
pub fn strip_claims(headers: &mut HeaderMap, settings: &Settings) {
    let is_claim = |name: &str| {
        let name = name.as_bytes();
        name.len() >= OURS.len()
            && name
                .iter()
                .zip(OURS.as_bytes())
                .all(|(&byte, &ours)| byte == ours || (byte == b'_' && ours == b'-'))
    };
    if !headers.keys().any(|name| is_claim(name.as_str())) {
        return;
    }
    let asked =
        [&settings.order.priority_header, &settings.order.deadline_header, &settings.order.tenant_header];
    let is_asked = |name: &str| {
        let mut asked = asked.into_iter().chain(&settings.access.shared_headers);
        asked.any(|asked| asked.eq_ignore_ascii_case(name))
    };
    let claims: Vec<HeaderName> =
        headers.keys().filter(|name| is_claim(name.as_str()) && !is_asked(name.as_str())).cloned().collect();
    for name in claims {
        headers.remove(name);
    }
}

/// Joins the several `cookie` headers that HTTP/2 allows into one, because HTTP/1.1 allows only one (RFC 9113, section
/// 8.2.3), and so that requests with equal cookies have equal headers however the cookies were split.
pub fn join_cookies<B>(request: &mut Request<B>) {
    if request.version() != Version::HTTP_2 {
        return;
    }
    let cookies: Vec<&[u8]> =
        request.headers().get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if cookies.len() > 1
        && let Ok(joined) = HeaderValue::from_bytes(&cookies.join(&b"; "[..]))
    {
        request.headers_mut().insert(header::COOKIE, joined);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::with_settings;

    #[test]
    fn clients_keep_what_they_are_asked_for_and_nothing_else_of_ours() {
        let settings =
            with_settings!(Settings::default(), access.shared_headers = vec!["X-Sluice-Team".to_owned()]);
        let names = [
            "x-sluice-warmup",
            "x_sluice_warmup",
            "x-sluice_warmup",
            "x-sluice-anything",
            "x-sluice-priority",
            "x-sluice-tenant",
            "x-sluice-team",
            "x-sluiced",
            "authorization",
        ];
        let mut headers: HeaderMap =
            names.iter().map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1"))).collect();
        strip_claims(&mut headers, &settings);
        let mut kept: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        kept.sort_unstable();
        assert_eq!(
            kept,
            ["authorization", "x-sluice-priority", "x-sluice-team", "x-sluice-tenant", "x-sluiced"]
        );
    }

    #[test]
    fn cookies_that_http2_has_cut_are_one_header() {
        let request = |version| {
            let builder = Request::builder().version(version).header("cookie", "a=1").header("cookie", "b=2");
            let mut request = builder.body(()).unwrap();
            join_cookies(&mut request);
            request.headers().get_all("cookie").iter().cloned().collect::<Vec<_>>()
        };
        assert_eq!(request(Version::HTTP_2), ["a=1; b=2"]);
        assert_eq!(request(Version::HTTP_11), ["a=1", "b=2"], "as it came");
    }
}

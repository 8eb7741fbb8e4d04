//! Paths of the model server for tests of requests that pass through.

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};

use super::{Body, reply};

/// An answer to a path of ours.
pub fn passing(path: &str, request: Request<Incoming>) -> Option<Response<Body>> {
    match path {
        // Each piece goes back as it comes.
        "/duplex" => {
            let body = request.into_body().map_err(|error| panic!("the body was cut: {error}"));
            Some(Response::new(body.boxed_unsync()))
        }
        "/with-trailers" => {
            let mut trailers = HeaderMap::new();
            trailers.insert("x-checksum", "42".parse().unwrap());
            // These are for one connection, wherever they stand.
            trailers.insert("keep-alive", "timeout=5".parse().unwrap());
            trailers.insert("connection", "close".parse().unwrap());
            let frames = [Ok(Frame::data(Bytes::from_static(b"body"))), Ok(Frame::trailers(trailers))];
            let mut response = Response::new(StreamBody::new(futures::stream::iter(frames)).boxed_unsync());
            response.headers_mut().insert("trailer", "x-checksum, keep-alive, connection".parse().unwrap());
            Some(response)
        }
        "/hops" => {
            let mut response = reply(200, "{}");
            for (name, value) in [
                ("connection", "x-internal, content-length, content-type"),
                ("connection", "keep-alive, x-more, set-cookie"),
                ("keep-alive", "timeout=5"),
                ("proxy-connection", "keep-alive"),
                ("proxy-authenticate", "Basic"),
                ("proxy-authentication-info", "x"),
                ("upgrade", "h2c"),
                ("te", "trailers"),
                ("x-internal", "1"),
                ("x-more", "1"),
                ("set-cookie", "a=1"),
                ("x-kept", "1"),
            ] {
                response.headers_mut().append(name, value.parse().unwrap());
            }
            Some(response)
        }
        // Reads nothing of what is sent, and says nothing.
        "/sink" => {
            let body = StreamBody::new(futures::stream::unfold(request, |request| async move {
                std::future::pending::<()>().await;
                Some((Ok(Frame::data(Bytes::new())), request))
            }));
            Some(Response::new(body.boxed_unsync()))
        }
        // Without an end.
        "/flood" => {
            let piece = Bytes::from(vec![b'x'; 16 << 10]);
            let pieces = futures::stream::repeat_with(move || Ok(Frame::data(piece.clone())));
            Some(Response::new(StreamBody::new(pieces).boxed_unsync()))
        }
        path if path.starts_with("/bulk/") => {
            let bytes: usize = path.strip_prefix("/bulk/")?.parse().ok()?;
            Some(Response::new(Full::new(Bytes::from(vec![b'x'; bytes])).boxed_unsync()))
        }
        path => {
            let status: u16 = path.strip_prefix("/status/")?.parse().ok()?;
            let mut response = reply(status, "");
            response.headers_mut().insert("etag", "\"v1\"".parse().unwrap());
            Some(response)
        }
    }
}

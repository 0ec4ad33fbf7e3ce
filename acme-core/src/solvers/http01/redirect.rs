//! [`Http01Redirect`]: all that a port 80 has to say where everything else is on HTTPS.

use std::convert::Infallible;
use std::future::Future;
use std::net::Ipv6Addr;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{HOST, LOCATION};
use http::uri::Authority;
use http::{HeaderValue, Request, Response, StatusCode};
use tower_service::Service;

use super::responder::short;
use super::{Http01Body, Http01Responder, WELL_KNOWN};

/// Answers challenges by an [`Http01Responder`], and sends every other request to the same place on HTTPS.
///
/// | Request | Answer |
/// |---|---|
/// | below `/.well-known/acme-challenge/` | the responder's |
/// | any other | 308 to `https://`, the host asked for, the same path and query |
/// | one without a usable host or path | 400 |
///
/// As a `tower_service::Service` it fits hyper, tower and axum (`Router::new().fallback_service(…)`).
///
/// ```
/// use acmekit_core::solvers::{Http01Redirect, Http01Responder};
///
/// let redirect = Http01Redirect::new(Http01Responder::default());
/// let request = http::Request::get("/cart?id=1").header("host", "shop.example.com").body(()).unwrap();
/// let answer = redirect.location(&request).unwrap();
/// assert_eq!(answer, "https://shop.example.com/cart?id=1");
/// ```
#[derive(Debug, Clone)]
pub struct Http01Redirect {
    responder: Http01Responder,
    port: u16,
}

impl Http01Redirect {
    /// To port 443.
    pub fn new(responder: Http01Responder) -> Self {
        Self { responder, port: 443 }
    }

    /// To another port.
    #[must_use]
    pub fn https_port(mut self, port: u16) -> Self {
        self.port = port;
        self
    }

    /// Where a request is sent; `None` if it names no host or no path.
    pub fn location<B>(&self, request: &Request<B>) -> Option<HeaderValue> {
        let named = match request.headers().get(HOST) {
            Some(host) => host.to_str().ok()?.parse::<Authority>().ok()?,
            None => request.uri().authority()?.clone(),
        };
        // Behind an address in brackets an `Authority` has anything.
        let behind = named.as_str().strip_prefix(named.host())?;
        if !is_host(named.host()) || !(behind.is_empty() || behind.starts_with(':')) {
            return None;
        }
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        // Octets beyond ASCII are in no URI (RFC 3986), though `http` lets them pass.
        if !path.starts_with('/') || !path.is_ascii() {
            return None;
        }
        let host = named.host();
        let location = match self.port {
            443 => format!("https://{host}{path}"),
            port => format!("https://{host}:{port}{path}"),
        };
        location.parse().ok()
    }
}

/// A name or an address. An `Authority` has brackets anywhere.
fn is_host(text: &str) -> bool {
    match text.strip_prefix('[').and_then(|text| text.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !text.is_empty() && !text.contains(['[', ']']),
    }
}

impl<B> Service<Request<B>> for Http01Redirect {
    type Response = Response<Http01Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let path = request.uri().path().trim_start_matches('/');
        if path.strip_prefix(WELL_KNOWN).is_some_and(|rest| rest.starts_with('/')) {
            return self.responder.call(request);
        }
        let answer = match self.location(&request) {
            None => short(StatusCode::BAD_REQUEST),
            Some(location) => {
                let mut answer = short(StatusCode::PERMANENT_REDIRECT);
                answer.headers_mut().insert(LOCATION, location);
                answer
            }
        };
        Box::pin(async move { Ok(answer.map(|bytes: Bytes| Http01Body::new(bytes))) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent(port: u16, host: &str, target: &str) -> Option<String> {
        let request = Request::get(target).header(HOST, host).body(()).unwrap();
        let redirect = Http01Redirect::new(Http01Responder::default()).https_port(port);
        redirect.location(&request).map(|location| location.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_request_is_sent_to_the_same_place_on_https() {
        for (port, host, target, want) in [
            (443, "a.example", "/", "https://a.example/"),
            (443, "a.example:80", "/x?y=z", "https://a.example/x?y=z"),
            (8443, "a.example:8080", "/", "https://a.example:8443/"),
            (443, "[2001:db8::1]:80", "/", "https://[2001:db8::1]/"),
            (443, "a.example", "//other.example/x", "https://a.example//other.example/x"),
            (443, "a.example", "http://b.example/x", "https://a.example/x"),
        ] {
            assert_eq!(sent(port, host, target).as_deref(), Some(want));
        }
        for (host, target) in [
            ("", "/"),
            ("user@a.example", "/"),
            ("a b", "/"),
            ("a.example/x", "/"),
            ("a.example", "*"),
            ("a.example", "/stra\u{df}e"),
        ] {
            assert_eq!(sent(443, host, target), None, "{host} {target}");
        }
    }

    #[test]
    fn nobody_is_sent_to_what_is_no_host() {
        for host in ["x[21:db8::1]:80", "a[b", "[::1", "[a.example]", "[::1]x"] {
            // What cannot even be a header is refused before.
            assert_eq!(sent(443, host, "/"), None, "{host}");
        }
    }

    #[tokio::test]
    async fn a_challenge_is_answered_and_nothing_without_a_host_is_redirected() {
        let mut redirect = Http01Redirect::new(Http01Responder::default());
        let of = |path: &str| Request::post(path).body(()).unwrap();
        let mut status = async |path: &str| redirect.call(of(path)).await.unwrap().status();
        assert_eq!(status("/.well-known/acme-challenge/none").await, StatusCode::NOT_FOUND);
        assert_eq!(status("/.well-known/acme-challenges").await, StatusCode::BAD_REQUEST);
        assert_eq!(status("http://a.example/").await, StatusCode::PERMANENT_REDIRECT);
    }
}

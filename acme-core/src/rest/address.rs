//! Where requests go: below the base URL and nowhere else.

use std::net::IpAddr;

use reqwest::Url;

use crate::{Error, ErrorKind, Result};

/// Parses a base URL.
pub(super) fn base(text: &str) -> Result<Url> {
    parse(text, false)
}

/// Parses the URL of one place, which may have a query.
#[cfg(feature = "rustls")]
pub(super) fn with_query(text: &str) -> Result<Url> {
    parse(text, true)
}

fn parse(text: &str, may_have_query: bool) -> Result<Url> {
    let refuse = |why: &str| {
        Error::new(ErrorKind::Config, "rest.base_url", format!("this is no base URL of an API: {why}"))
            .with_hint(
                "write it as in `https://api.example.com/v1`; http:// is for 127.0.0.1, ::1 and localhost",
            )
    };
    let url = Url::parse(text).map_err(|e| refuse("it is not a URL").with_source(e))?;
    // First, so that no other error shows a password.
    if !url.username().is_empty() || url.password().is_some() {
        return Err(refuse("it carries a user name or a password"));
    }
    if (url.query().is_some() && !may_have_query) || url.fragment().is_some() {
        return Err(refuse("it has a query or a fragment"));
    }
    // A query may hold a token.
    let refuse = |why: &str| match url.query() {
        None => refuse(why).with("url", text),
        Some(_) => refuse(why),
    };
    let host = url.host_str().ok_or_else(|| refuse("it has no host"))?;
    let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
    let loopback = host == "localhost" || address.is_ok_and(|ip| ip.is_loopback());
    match url.scheme() {
        "https" => Ok(url),
        "http" if loopback => Ok(url),
        _ => Err(refuse("a credential is sent by https only")),
    }
}

/// The URL of these segments below the base, with a slash at the end or without.
pub(super) fn below(base: &Url, op: &'static str, path: &[&str], slash: bool) -> Result<Url> {
    let mut url = base.clone();
    // A URL takes these for steps, and drops them.
    if let Some(segment) = path.iter().find(|segment| matches!(**segment, "" | "." | "..")) {
        return Err(Error::new(ErrorKind::Config, op, "a part of the path is empty or a step")
            .with("part", format!("{segment:?}"))
            .with_hint("an id is missing or is none"));
    }
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(path).extend(slash.then_some(""));
    }
    Ok(url)
}

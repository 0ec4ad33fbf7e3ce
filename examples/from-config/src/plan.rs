//! When each certificate can be had, before anything starts.

use std::fmt::Write as _;

use acmekit::config::Setup;
use acmekit::{CertificateSpec, Clock, Error, ErrorKind, Plan, Result, SystemClock};

use crate::report::rfc3339;

/// What is to be ordered, and when it can be.
pub(crate) struct Outlook {
    plan: Plan,
    /// How many need nothing.
    fine: usize,
}

/// Renewals come before what there is not yet, as they would be done.
pub(crate) async fn plan(setup: &Setup) -> Result<Outlook> {
    let now = SystemClock::default().now();
    let (mut renewals, mut new, mut fine) = (Vec::new(), Vec::new(), 0);
    let pipeline = setup.pipeline()?;
    for wanted in setup.certificates() {
        let status = pipeline.status(&wanted.spec).await?;
        let due = status.renewal.is_none_or(|decision| decision.at <= now);
        match (&status.bundle, due || !status.fit) {
            (Some(_), true) => renewals.push(wanted.spec.clone()),
            (None, _) => new.push(wanted.spec.clone()),
            (Some(_), false) => fine += 1,
        }
    }
    let specs: Vec<CertificateSpec> = renewals.into_iter().chain(new).collect();
    Ok(Outlook { plan: pipeline.plan(&specs).await?, fine })
}

impl Outlook {
    pub(crate) fn json(&self) -> Result<String> {
        serde_json::to_string_pretty(&self.plan).map(|text| text + "\n").map_err(|e| {
            Error::new(ErrorKind::Other, "from-config.plan", "the plan could not be printed").with_source(e)
        })
    }

    pub(crate) fn table(&self) -> String {
        let width =
            self.plan.orders.iter().map(|one| one.certificate.as_str().len()).max().unwrap_or(0).max(11);
        let mut out = String::new();
        // Writing to a string cannot fail.
        writeln!(out, "{:width$}  {:20}  WAITS FOR", "CERTIFICATE", "CAN BE ORDERED AT").ok();
        for one in &self.plan.orders {
            let (id, at) = (one.certificate.as_str(), rfc3339(one.at).unwrap_or_default());
            writeln!(out, "{id:width$}  {at:20}  {}", one.waits_for.as_deref().unwrap_or("-")).ok();
        }
        let done = rfc3339(self.plan.done_at).unwrap_or_default();
        let (count, fine) = (self.plan.orders.len(), self.fine);
        match count {
            0 => writeln!(out, "\nnothing to order; {fine} need nothing").ok(),
            _ => writeln!(out, "\n{count} to order, all done at {done}; {fine} need nothing").ok(),
        };
        out
    }
}

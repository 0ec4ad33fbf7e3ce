//! What the fleet lives in: two CAs with limits, a DNS that is out of order for a while, and what fails when.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use acmekit::limits::{Limit, Limits};
use acmekit::manager::Managed;
use acmekit::stores::MemoryStore;
use acmekit::{
    Authority, CertificateSpec, Challenge, ChallengeKind, ChallengeSolver, Deadline, Error, ErrorKind,
    Manager, Pipeline, Presentation, Result, async_trait,
};
use acmekit_server::faults::{Fault, presets};
use acmekit_server::{MovableClock, TestCa};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The ids of the authorities, as they are preferred.
const IDS: [&str; 2] = ["primary", "fallback"];

/// When the story begins: 2027-01-15 08:00 UTC.
pub(crate) fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

/// The CAs, the DNS, and the days on which they fail.
pub(crate) struct World {
    clock: MovableClock,
    certificates: u32,
    cas: [TestCa; 2],
    dns: Dns,
    /// The days on which the first CA does not answer.
    outage: Range<u32>,
    /// The days on which the token of one zone is not valid.
    lockout: Range<u32>,
}

impl World {
    pub(crate) async fn start(clock: &MovableClock, certificates: u32, days: u32) -> Result<Self> {
        let [primary, fallback] = orders_a_day(certificates);
        // Every 30 days much of the fleet is due: an outage in the middle that falls on such a day is worth watching.
        let outage = ((days / 2 + 15) / 30 * 30).max(30);
        Ok(Self {
            clock: clock.clone(),
            certificates,
            cas: [ca(clock, primary).await?, ca(clock, fallback).await?],
            dns: Dns { locked: Arc::default(), zone: name(1) },
            outage: outage..outage + 4,
            // The certificate it meets is due on day 30 and expires on day 45.
            lockout: 26..40,
        })
    }

    pub(crate) fn manager(&self) -> Result<Manager> {
        let [primary, fallback] = &self.cas;
        let [first, second] = orders_a_day(self.certificates);
        let pipeline = Pipeline::builder(authority(primary, IDS[0], first)?, Arc::new(MemoryStore::new()))
            .fall_back_to(authority(fallback, IDS[1], second)?)
            .clock(Arc::new(self.clock.clone()))
            .solver(self.dns.clone())
            .build()?;
        Ok(Manager::builder(pipeline).start())
    }

    /// The certificates: mixed profiles, in three groups that take turns.
    pub(crate) fn fleet(&self) -> Result<Vec<Managed>> {
        (0..self.certificates).map(certificate).collect()
    }

    /// How many orders each authority lets through at once.
    pub(crate) fn budgets(&self) -> [u32; 2] {
        orders_a_day(self.certificates)
    }

    /// How many certificates each CA says it has issued.
    pub(crate) fn issued(&self) -> [(&'static str, u64); 2] {
        let [primary, fallback] = &self.cas;
        [(IDS[0], primary.certificates_issued()), (IDS[1], fallback.certificates_issued())]
    }

    /// Does what is to happen on this day; says what, the first time.
    pub(crate) fn act(&mut self, day: u32) -> Option<&'static str> {
        let locked = self.lockout.contains(&day);
        if self.dns.locked.swap(locked, Ordering::SeqCst) != locked {
            return Some(match locked {
                true => "the DNS token of one zone is revoked",
                false => "the DNS token of that zone is renewed",
            });
        }
        let [primary, _] = &self.cas;
        let down = !primary.faults().hits().is_empty();
        match (self.outage.contains(&day), down) {
            (true, false) => {
                primary.faults().add(Fault::everywhere(presets::html_502()).always());
                Some("the primary CA goes down")
            }
            (false, true) => {
                primary.faults().clear();
                Some("the primary CA is up again")
            }
            _ => None,
        }
    }
}

/// So few that the first certificates have to wait: at the first CA a fifth of the fleet in a day.
fn orders_a_day(certificates: u32) -> [u32; 2] {
    [certificates.div_ceil(5), certificates.div_ceil(3)]
}

fn limits(orders: u32) -> Limits {
    Limits::none().with_orders_per_account(Limit::new(orders, DAY))
}

async fn ca(clock: &MovableClock, orders: u32) -> Result<TestCa> {
    TestCa::builder()
        .always_valid()
        .clock(clock.clone())
        .limits(limits(orders))
        .settings(|settings| {
            // Each renewal is to meet the solver.
            settings.reuse_authorizations = false;
            // Half as often as others want to be asked: most of the time goes into that.
            settings.renewal_info_retry_after = DAY / 2;
        })
        .start()
        .await
}

fn authority(ca: &TestCa, id: &str, orders: u32) -> Result<Authority> {
    let authority = Authority::custom(&ca.directory_url())?.with_id(id).agree_to_terms();
    Ok(authority.with_limits(limits(orders)).through(ca.in_process()))
}

fn name(number: u32) -> String {
    format!("n{number:04}.{}.example", group(number))
}

fn group(number: u32) -> &'static str {
    match number % 3 {
        0 => "shops",
        1 => "portals",
        _ => "mail",
    }
}

fn certificate(number: u32) -> Result<Managed> {
    let profile = match number % 10 {
        0 => "shortlived",
        1..=4 => "tlsserver",
        _ => "classic",
    };
    Ok(Managed::new(CertificateSpec::new([name(number)])?.profile(profile)).group(group(number)))
}

/// A DNS that does whatever it is asked for, but for one zone whose token is revoked for a while.
#[derive(Debug, Clone)]
struct Dns {
    locked: Arc<AtomicBool>,
    zone: String,
}

#[async_trait]
impl ChallengeSolver for Dns {
    fn kind(&self) -> ChallengeKind {
        ChallengeKind::Dns01
    }
    async fn prepare(&self, challenge: &Challenge, _: Deadline) -> Result<Presentation> {
        if self.locked.load(Ordering::SeqCst) && challenge.identifier.to_string() == self.zone {
            return Err(Error::new(ErrorKind::Auth, "dns.prepare", "the DNS vendor refuses the token")
                .with_hint("make a new token at the DNS vendor"));
        }
        Ok(Presentation::new(challenge.clone()))
    }
    async fn present(&self, presentation: &Presentation, _: Deadline) -> Result<Presentation> {
        Ok(presentation.clone())
    }
    async fn ready(&self, _: &Presentation, _: Deadline) -> Result<()> {
        Ok(())
    }
    async fn cleanup(&self, _: &Presentation, _: Deadline) -> Result<()> {
        Ok(())
    }
}

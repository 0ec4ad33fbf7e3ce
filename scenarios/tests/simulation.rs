//! A year of a fleet in virtual time: a CA that is down for ten days, a mass revocation, a week of failing DNS, restarts
//! at random. The CA enforces Let's Encrypt's limits; nothing goes over a network.
//!
//! How many certificates there are is decided by `ACMEKIT_SIMULATION` (12; `dev/check` has 10,000); what happens is decided
//! by `ACMEKIT_SEED`. A histogram of what was issued when is written to `simulation.svg` in cargo's
//! folder for test output, whose path is told at the end.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use acmekit::limits::Limits;
use acmekit::stores::MemoryStore;
use acmekit::{
    Authority, CertificateId, CertificateSpec, Challenge, ChallengeKind, ChallengeSolver, Clock, Deadline,
    Error, ErrorKind, Event, Exchange, Manager, Pipeline, Presentation, Result, Store, What, async_trait,
};
use acmekit_server::faults::{Fault, RetryAfter, presets};
use acmekit_server::{MovableClock, OrderState, RenewalInfo, State, TestCa};
use bytes::Bytes;

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);
const YEAR: u32 = 365;

fn start() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Numbers that look like chance, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, limit: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % limit
    }
}

/// The way to a CA, with an eye on how often it refuses for its limits.
#[derive(Debug)]
struct Tally {
    way: Arc<dyn Exchange>,
    limited: Arc<AtomicU64>,
    requests: Arc<AtomicU64>,
}

#[async_trait]
impl Exchange for Tally {
    async fn exchange(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>> {
        let answer = self.way.exchange(request).await?;
        self.requests.fetch_add(1, Ordering::Relaxed);
        if answer.status() == http::StatusCode::TOO_MANY_REQUESTS {
            self.limited.fetch_add(1, Ordering::Relaxed);
        }
        Ok(answer)
    }
}

/// Proves what it is asked to, but for one zone while its DNS is broken.
#[derive(Debug, Clone, Default)]
struct Dns {
    broken: Arc<AtomicBool>,
}

const BROKEN_ZONE: &str = ".zone.example";

#[async_trait]
impl ChallengeSolver for Dns {
    fn kind(&self) -> ChallengeKind {
        ChallengeKind::Dns01
    }
    async fn prepare(&self, challenge: &Challenge, _: Deadline) -> Result<Presentation> {
        if self.broken.load(Ordering::SeqCst) && challenge.identifier.to_string().ends_with(BROKEN_ZONE) {
            return Err(Error::new(ErrorKind::Unavailable, "dns.prepare", "the vendor is out of order"));
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

/// What was issued when.
#[derive(Debug, Default)]
struct Book {
    not_after: BTreeMap<CertificateId, SystemTime>,
    issued: Vec<SystemTime>,
    /// Renewals that came after the certificate before them had expired.
    late: Vec<(CertificateId, Duration)>,
}

#[derive(Debug, Clone)]
struct Books(Arc<Mutex<Book>>, MovableClock);

impl Books {
    fn open(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn observe(&self, event: &Event) {
        let What::CertificateIssued { not_after, .. } = &event.what else { return };
        let (now, mut book) = (self.1.now(), self.open());
        book.issued.push(now);
        if let Some(before) = book.not_after.insert(event.certificate.clone(), *not_after)
            && let Ok(late) = now.duration_since(before)
        {
            book.late.push((event.certificate.clone(), late));
        }
    }
}

/// One certificate of a hundred lives 160 hours, one of ten 45 days, the others 90. One of fifty is in the zone whose DNS
/// will break; none of the shortest lived is, which would have to expire.
fn fleet(count: u64) -> Vec<CertificateSpec> {
    (0..count)
        .map(|n| {
            let name = if n % 50 == 7 { format!("n{n}{BROKEN_ZONE}") } else { format!("www.n{n}.example") };
            let profile = match n % 100 {
                3 => "shortlived",
                n if n % 10 == 5 => "tlsserver",
                _ => "classic",
            };
            CertificateSpec::new([name]).unwrap().profile(profile)
        })
        .collect()
}

fn lifetime(profile: Option<&str>) -> Duration {
    match profile {
        Some("shortlived") => 160 * HOUR,
        Some("tlsserver") => 45 * DAY,
        _ => 90 * DAY,
    }
}

struct World {
    cas: [TestCa; 2],
    store: Arc<dyn Store>,
    clock: MovableClock,
    dns: Dns,
    books: Books,
    limited: Arc<AtomicU64>,
    requests: Arc<AtomicU64>,
}

impl World {
    async fn start() -> Self {
        let clock = MovableClock::paced(start());
        let ca = || {
            TestCa::builder()
                .always_valid()
                .clock(clock.clone())
                .limits(Limits::lets_encrypt())
                .settings(|settings| settings.renewal_info_retry_after = 12 * HOUR)
                .start()
        };
        let cas = [ca().await.unwrap(), ca().await.unwrap()];
        let books = Books(Arc::default(), clock.clone());
        let (limited, requests) = (Arc::default(), Arc::default());
        Self {
            cas,
            store: Arc::new(MemoryStore::new()),
            clock,
            dns: Dns::default(),
            books,
            limited,
            requests,
        }
    }

    fn authority(&self, position: usize) -> Authority {
        let ca = &self.cas[position];
        let (limited, requests) = (Arc::clone(&self.limited), Arc::clone(&self.requests));
        Authority::custom(&ca.directory_url())
            .unwrap()
            .with_id(["first", "second"][position])
            .agree_to_terms()
            .with_limits(Limits::lets_encrypt())
            .through(Arc::new(Tally { way: ca.in_process(), limited, requests }))
    }

    fn pipeline(&self) -> Pipeline {
        let books = self.books.clone();
        Pipeline::builder(self.authority(0), Arc::clone(&self.store))
            .fall_back_to(self.authority(1))
            .solver(self.dns.clone())
            .observer(move |event: &Event| books.observe(event))
            .clock(Arc::new(self.clock.clone()))
            .build()
            .unwrap()
    }

    async fn manager(&self, fleet: &[CertificateSpec]) -> Manager {
        let manager = Manager::builder(self.pipeline()).start();
        for spec in fleet {
            manager.add(spec.clone()).await.unwrap();
        }
        manager
    }

    /// The CA must replace every third certificate at once.
    async fn revoke(&self, fleet: &[CertificateSpec]) -> Vec<CertificateId> {
        let (now, reader) = (self.clock.now(), self.pipeline());
        let mut revoked = Vec::new();
        for spec in fleet.iter().step_by(3) {
            let bundle = reader.load(spec.id()).await.unwrap().unwrap();
            let window =
                RenewalInfo::new(now - HOUR, now - HOUR / 2).with_explanation("https://ca.example/incident");
            if bundle.origin().authority == "first" {
                self.cas[0].set_renewal_window(&bundle.leaf_pem(), window).unwrap();
                revoked.push(spec.id().clone());
            }
        }
        revoked
    }

    /// How many renewals lay in the window of the certificate before them, and how many of these said so.
    async fn replacements(&self) -> (usize, usize) {
        let (mut inside, mut told) = (0, 0);
        let revocation = start() + REVOCATION * DAY;
        for ca in &self.cas {
            let mut chains: BTreeMap<_, Vec<_>> = BTreeMap::new();
            for order in ca.state().orders() {
                if let OrderState::Valid(id) = &order.state {
                    let certificate = ca.state().certificate(id).await.unwrap().unwrap();
                    chains.entry(order.identifiers.clone()).or_default().push((order, certificate));
                }
            }
            for mut chain in chains.into_values() {
                chain.sort_by_key(|(order, _)| order.created);
                for pair in chain.windows(2) {
                    let [(order, certificate), (next, _)] = pair else { continue };
                    let life = lifetime(order.profile.as_deref());
                    let begun = certificate.not_after - life;
                    // Boulder's window, but for those the CA wanted back.
                    let centre = begun + if life < 10 * DAY { life / 2 } else { life * 2 / 3 };
                    let window = centre - life / 100..centre + life / 100;
                    let wanted_back = next.created > revocation && order.created < revocation;
                    if window.contains(&next.created) && !wanted_back {
                        inside += 1;
                        told += usize::from(next.replaces == certificate.renewal_id);
                    }
                }
            }
        }
        (inside, told)
    }
}

const OUTAGE: std::ops::Range<u32> = 100..110;
const BROKEN_DNS: std::ops::Range<u32> = 150..157;
const REVOCATION: u32 = 200;
/// By then all have their first certificate.
const SETTLED: u32 = 7;

#[tokio::test(start_paused = true)]
async fn a_year_of_a_fleet() {
    let count = number("ACMEKIT_SIMULATION", 12);
    let mut dice = Dice(number("ACMEKIT_SEED", 7));
    let world = World::start().await;
    let fleet = fleet(count);
    let mut manager = world.manager(&fleet).await;
    let (mut restarts, mut revoked) = (0, Vec::new());
    for day in 0..YEAR {
        if day == OUTAGE.start {
            let down = presets::unavailable(RetryAfter::Seconds(600));
            world.cas[0].faults().add(Fault::everywhere(down).always());
        } else if day == OUTAGE.end {
            world.cas[0].faults().clear();
        }
        world.dns.broken.store(BROKEN_DNS.contains(&day), Ordering::SeqCst);
        if day == REVOCATION {
            revoked = world.revoke(&fleet).await;
        }
        let pause = DAY.mul_f64(dice.below(1000) as f64 / 1000.0);
        tokio::time::sleep(pause).await;
        if dice.below(10) == 0 {
            restarts += 1;
            // Half of them without a farewell.
            match dice.below(2) {
                0 => drop(manager),
                _ => manager.shutdown().await,
            }
            manager = world.manager(&fleet).await;
        }
        tokio::time::sleep(DAY - pause).await;
    }
    manager.settled().await.unwrap();
    let status = manager.status().await.unwrap();
    manager.shutdown().await;

    let now = world.clock.now();
    let expired = status.certificates.iter().filter(|one| one.not_after.is_none_or(|end| end <= now)).count();
    let (inside, told) = world.replacements().await;
    let book = world.books.open();
    let by_hour = histogram(&book.issued);
    let busiest = |days: &dyn Fn(u32) -> bool| {
        let hours = (0_u32..).zip(&by_hour).filter(|(hour, _)| days(hour / 24)).map(|(_, count)| *count);
        hours.max().unwrap_or_default()
    };
    let (anyhow, revoking) = (busiest(&|_| true), busiest(&|day| day.abs_diff(REVOCATION) < 2));
    let renewing = busiest(&|day| day >= SETTLED && day.abs_diff(REVOCATION) >= 2);
    let svg = std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join("simulation.svg");
    #[expect(clippy::disallowed_methods, reason = "a picture, not a key")]
    std::fs::write(&svg, draw(&by_hour)).unwrap();
    eprintln!(
        "certificates {count}, days {YEAR}, restarts {restarts}, issued {} ({} by the second CA), wanted back {}, requests {}\n\
         expired {expired}, late {}, refused for limits {}, renewals in their window {inside}, of these saying so {told}\n\
         busiest hour {anyhow}, of renewals {renewing}, of the revocation {revoking}; histogram: {}",
        book.issued.len(),
        world.cas[1].certificates_issued(),
        revoked.len(),
        world.requests.load(Ordering::Relaxed),
        book.late.len(),
        world.limited.load(Ordering::Relaxed),
        svg.display(),
    );
    assert_eq!(book.not_after.len(), fleet.len());
    assert_eq!((expired, &book.late), (0, &Vec::new()), "a certificate has expired");
    assert_eq!(world.limited.load(Ordering::Relaxed), 0, "a limit was hit");
    assert!(inside > book.issued.len() / 2, "{inside} of {} renewals in their window", book.issued.len());
    assert_eq!(told, inside, "a renewal in its window did not say what it replaces");
    assert!(world.cas[1].certificates_issued() > 0, "the second CA stood in");
    // What all begin with at once, at the CA's pace, and again with what the CA wants back, is renewed without a peak.
    let share = |part: u64| usize::try_from(count / part).unwrap().max(12);
    assert!(renewing <= share(50), "{renewing} in an hour");
    assert!(revoking <= share(25), "{revoking} in an hour");
}

fn histogram(issued: &[SystemTime]) -> Vec<usize> {
    let mut hours = vec![0; usize::try_from(YEAR * 24 + 48).unwrap()];
    for at in issued {
        let hour = at.duration_since(start()).unwrap().as_secs() / 3600;
        if let Some(count) = hours.get_mut(usize::try_from(hour).unwrap()) {
            *count += 1;
        }
    }
    hours
}

/// One line an hour, four pixels a day.
fn draw(by_hour: &[usize]) -> String {
    let highest = by_hour.iter().max().copied().unwrap_or(1).max(1);
    let (width, height) = (by_hour.len() / 6, 200);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{}\" height=\"{}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <text x=\"4\" y=\"14\">certificates issued per hour; highest {highest}</text>\n<path stroke=\"#246\" d=\"",
        width + 8,
        height + 40
    );
    for (hour, count) in by_hour.iter().enumerate().filter(|(_, count)| **count > 0) {
        let (x, y) = (hour as f64 / 6.0, count * height / highest);
        // Writing to a string cannot fail.
        write!(svg, "M{x:.1} {}v-{y}", height + 20).ok();
    }
    svg.push_str("\"/>\n");
    for (day, what) in
        [(OUTAGE.start, "CA down"), (BROKEN_DNS.start, "DNS broken"), (REVOCATION, "revocation")]
    {
        writeln!(svg, "<text x=\"{}\" y=\"{}\">{what}</text>", day * 4, height + 36).ok();
    }
    svg.push_str("</svg>\n");
    svg
}

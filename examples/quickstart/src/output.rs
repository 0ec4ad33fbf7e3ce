//! What a person reads.

use std::path::Path;
use std::time::Instant;

use acmekit::{Event, Issuance, What};

/// Prints steps with the time since the start.
pub(crate) struct Output {
    started: Instant,
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "this is the program's output")]
impl Output {
    #[expect(clippy::disallowed_methods, reason = "only shown to a person")]
    pub(crate) fn new() -> Self {
        Self { started: Instant::now() }
    }

    pub(crate) fn title(&self, text: &str) {
        println!("\n{text}");
    }

    pub(crate) fn step(&self, text: &str) {
        println!("  {:>6.2} s  {text}", self.started.elapsed().as_secs_f32());
    }

    pub(crate) fn failed(&self, report: &str) {
        eprintln!("\nfailed after {:.2} s: {report}", self.started.elapsed().as_secs_f32());
    }

    /// Tells each event of the pipeline as a step.
    pub(crate) fn observer(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let out = Self { started: self.started };
        move |event: &Event| {
            if let Some(text) = tell(&event.what) {
                out.step(&text);
            }
        }
    }

    pub(crate) fn what_next(&self, folder: &Path, reload: Option<&Path>, last: &Issuance) {
        let due = last.renew_at.duration_since(last.bundle.facts().not_before).unwrap_or_default();
        println!("\nWhere things are");
        println!("  account, certificate and key   {}  (0600, for this user alone)", folder.display());
        match reload {
            Some(path) => {
                println!("  what HAProxy would reload      {}  (gone when this program ends)", path.display())
            }
            None => println!("  the servers                    in this process: gone when it ends"),
        }
        println!("\nWhat happens next");
        println!(
            "  The certificate is due {} days after its issue; a service calls `obtain` from time to time,",
            due.as_secs().div_ceil(86_400)
        );
        println!("  and it renews by itself. Kill this program at any moment and start it again with");
        println!("  --store and a real --directory: it goes on where it was.");
        if reload.is_none() {
            println!("  The same on Pebble, BIND and HAProxy: --real-servers, after `dev/setup`.");
        }
    }
}

fn tell(what: &What) -> Option<String> {
    Some(match what {
        What::AccountReady { created: true, authority } => format!("registered an account at {authority}"),
        What::AccountReady { authority, .. } => format!("using the account at {authority}"),
        What::OrderCreated { .. } => "ordered".to_owned(),
        What::OrderResumed { .. } => "went on with an order from before".to_owned(),
        What::ChallengePresented { identifier, kind } => {
            format!("put up the proof for {identifier} ({kind})")
        }
        What::ChallengesReady { after } => format!("all of it can be seen, after {} ms", after.as_millis()),
        What::Authorized => "the CA is convinced".to_owned(),
        What::ChallengeCleaned { identifier } => format!("took down the proof for {identifier}"),
        What::CleanupFailed { identifier, error } => {
            format!("could not take down the proof for {identifier}: {error}")
        }
        What::CertificateIssued { serial, .. } => format!("got the certificate, serial {serial}"),
        What::CertificateStored { .. } => "stored it".to_owned(),
        What::Deployed { deployer, .. } => format!("{deployer} serves it"),
        What::DeployFailed { deployer, error } => format!("{deployer} does not serve it: {error}"),
        _ => return None,
    })
}

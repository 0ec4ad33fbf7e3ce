//! What happens meanwhile: bars on a terminal, plain lines everywhere else.

use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use acmekit::{Event, Outcome, What};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// Shows progress on standard error. Clones show the same.
#[derive(Clone)]
pub(crate) struct Progress {
    shown: Arc<Shown>,
}

enum Shown {
    /// Only the result matters.
    Nothing,
    Lines,
    Bars(Bars),
}

struct Bars {
    screen: MultiProgress,
    all: ProgressBar,
    /// One for each certificate that something has happened to, and none for those that are done.
    each: Mutex<BTreeMap<String, Option<ProgressBar>>>,
}

impl Progress {
    pub(crate) fn new(silent: bool) -> Self {
        let shown = match (silent, std::io::stderr().is_terminal()) {
            (true, _) => Shown::Nothing,
            (false, false) => Shown::Lines,
            (false, true) => {
                let screen = MultiProgress::new();
                let all = screen.add(ProgressBar::new(0));
                // The template is ours: a mistake in it shows the default bar.
                if let Ok(style) =
                    ProgressStyle::with_template("{bar:40} {pos} of {len} certificates begun, {elapsed}")
                {
                    all.set_style(style);
                }
                Shown::Bars(Bars { screen, all, each: Mutex::default() })
            }
        };
        Self { shown: Arc::new(shown) }
    }

    pub(crate) fn begin(&self, count: usize) {
        if let Shown::Bars(bars) = &*self.shown {
            bars.all.set_length(count as u64);
        }
    }

    pub(crate) fn observer(&self) -> impl Fn(&Event) + Send + Sync + 'static {
        let shown = Arc::clone(&self.shown);
        move |event: &Event| {
            let (certificate, text) = (event.certificate.as_str(), words(&event.what));
            match &*shown {
                Shown::Nothing => {}
                Shown::Lines => text.into_iter().for_each(|text| line(&format!("{certificate}: {text}"))),
                Shown::Bars(bars) => bars.at(certificate, &event.what, text),
            }
        }
    }

    /// Nothing more happens; the screen is left to the result.
    pub(crate) fn finish(&self) {
        if let Shown::Bars(bars) = &*self.shown {
            bars.all.finish_and_clear();
            // A screen that cannot be cleared stays as it is.
            bars.screen.clear().ok();
        }
    }
}

impl Bars {
    fn at(&self, certificate: &str, what: &What, text: Option<String>) {
        let mut each = self.each.lock().unwrap_or_else(PoisonError::into_inner);
        let bar = each.entry(certificate.to_owned()).or_insert_with(|| {
            self.all.inc(1);
            None
        });
        if matches!(what, What::RenewalScheduled { .. } | What::Failed { .. }) {
            bar.take().into_iter().for_each(|bar| bar.finish_and_clear());
        } else if let Some(text) = text {
            bar.get_or_insert_with(|| self.bar_of(certificate)).set_message(text);
        }
    }

    fn bar_of(&self, certificate: &str) -> ProgressBar {
        let bar = self.screen.insert_before(&self.all, ProgressBar::new_spinner());
        bar.enable_steady_tick(Duration::from_millis(120));
        bar.set_prefix(certificate.to_owned());
        if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix}: {msg}") {
            bar.set_style(style);
        }
        bar
    }
}

fn line(text: &str) {
    // Who has closed standard error does not want to know.
    writeln!(std::io::stderr(), "{text}").ok();
}

fn words(what: &What) -> Option<String> {
    Some(match what {
        What::AccountReady { created: true, authority } => format!("registered an account at {authority}"),
        What::OrderCreated { .. } => "ordered".to_owned(),
        What::OrderResumed { .. } => "goes on with an order from before".to_owned(),
        What::ChallengePresented { identifier, kind } => {
            format!("put up the proof for {identifier} ({kind})")
        }
        What::Authorized => "the CA is convinced".to_owned(),
        What::CleanupFailed { identifier, error } => {
            format!("could not take down the proof for {identifier}: {error}")
        }
        What::CertificateIssued { .. } => "issued".to_owned(),
        // Of what was in place already there is nothing to tell, run after run.
        What::Deployed { deployer, outcome: Outcome::Applied } => format!("{deployer} serves it"),
        What::Failed { trouble } => format!("failed: {}", trouble.error),
        What::DeployFailed { deployer, error } => format!("{deployer} does not serve it: {error}"),
        _ => return None,
    })
}

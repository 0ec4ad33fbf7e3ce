//! What is logged at trace level, kept to be searched: by a provider's own `tests/secrets.rs`.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::FmtSpan;

/// Everything that was logged on this thread since [`Log::start`], HTTP libraries included.
#[derive(Debug)]
pub struct Log {
    text: Text,
    _logging: tracing::subscriber::DefaultGuard,
}

#[derive(Debug, Clone, Default)]
struct Text(Arc<Mutex<Vec<u8>>>);

impl io::Write for Text {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    /// Keeps what is logged on this thread from here on: for tests on tokio's current-thread runtime.
    pub fn start() -> Self {
        let text = Text::default();
        let writer = text.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_span_events(FmtSpan::FULL)
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        Self { text, _logging: tracing::subscriber::set_default(subscriber) }
    }

    /// What was logged until now.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.text.0.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// Panics if one of the secrets is in the text: as it is, or as `Debug` shows octets.
///
/// # Panics
/// If it is.
pub fn assert_shows_none_of(text: &str, secrets: &[&str]) {
    for secret in secrets {
        assert!(!secret.is_empty(), "there is no secret to look for");
        let octets = format!("{:?}", secret.as_bytes());
        for form in [*secret, octets.trim_matches(['[', ']'])] {
            assert!(!text.contains(form), "a credential is shown as {form}");
        }
    }
}

//! Who is told what happens: an HTTP server, one event a request.

use std::time::Duration;

use acmekit::manager::{Events, Heard};
use acmekit::rest::{Client, Pool};
use acmekit::{Event, Result};
use http::Method;

/// How long one event may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where events are posted.
#[derive(Debug)]
pub(crate) struct Webhook {
    client: Client,
}

impl Webhook {
    /// Nothing is sent yet.
    ///
    /// # Errors
    /// `Config` if the URL is neither `https://` nor one of this machine, or has a query.
    pub(crate) fn new(url: &str) -> Result<Self> {
        // Whatever the server says but an error is fine.
        Ok(Self { client: Client::new(url, &Pool::new()?)?.with_timeout(PATIENCE).with_text_answers() })
    }

    /// Posts each event until there are no more. It is a task of its own: a server that is slow or away holds up no
    /// certificate; it misses events, and the log says so.
    pub(crate) async fn tell(self, mut events: Events) {
        while let Some(heard) = events.next().await {
            match heard {
                Heard::Event(event) => {
                    if let Err(error) = self.post(&event).await {
                        tracing::warn!(%error, certificate = %event.certificate, "the webhook was not told");
                    }
                }
                Heard::Missed(count) => {
                    tracing::warn!(count, "the webhook is too slow: events were left out")
                }
                _ => {}
            }
        }
    }

    async fn post(&self, event: &Event) -> Result<()> {
        self.client.request("webhook.post", Method::POST, &[]).json(event).done().await
    }
}

//! What happens, for whoever wants to listen.

use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;

use crate::Event;

/// The events of a [`Manager`](super::Manager), from when it was asked for them.
#[derive(Debug)]
pub struct Events(Receiver<Event>);

/// What a listener hears.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Heard {
    /// Something has happened.
    Event(Box<Event>),
    /// The listener was too slow: so many events were missed.
    Missed(u64),
}

impl Events {
    pub(super) fn new(receiver: Receiver<Event>) -> Self {
        Self(receiver)
    }

    /// The next event; `None` once the manager has ended.
    pub async fn next(&mut self) -> Option<Heard> {
        match self.0.recv().await {
            Ok(event) => Some(Heard::Event(Box::new(event))),
            Err(RecvError::Lagged(missed)) => Some(Heard::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }
}

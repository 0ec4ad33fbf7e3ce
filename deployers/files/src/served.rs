//! What clients see after a reload.

use std::net::SocketAddr;
use std::time::Duration;

use acmekit_core::{Bundle, Deadline, Error, ErrorKind, Result, Retry, probe};

/// One look: a handshake for each name.
const LOOK: Duration = Duration::from_secs(3);
/// nginx lets its old workers answer for about 100 ms more: the new certificate counts when it was
/// seen this often in a row, with these pauses.
const IN_A_ROW: usize = 3;
const PAUSE: Duration = Duration::from_millis(60);

/// Looks once at each address.
pub(crate) async fn look(addresses: &[SocketAddr], bundle: &Bundle) -> Result<()> {
    for address in addresses {
        probe::verify_served(*address, bundle, Deadline::after(LOOK)).await?;
    }
    Ok(())
}

/// Waits until each address shows the bundle and keeps to it. The error is what was seen last.
pub(crate) async fn wait(addresses: &[SocketAddr], bundle: &Bundle, patience: Duration) -> Result<()> {
    let deadline = Deadline::after(patience);
    for address in addresses {
        let mut seen = 0;
        while seen < IN_A_ROW {
            match probe::verify_served(*address, bundle, deadline.capped(LOOK)).await {
                Ok(()) => seen += 1,
                Err(e) if deadline.is_over() => return Err(late(e, patience)),
                Err(_) => seen = 0,
            }
            if seen < IN_A_ROW && !deadline.sleep(PAUSE).await {
                // The last look, so that the error says what is served and not that time is up.
                probe::verify_served(*address, bundle, Deadline::after(LOOK))
                    .await
                    .map_err(|e| late(e, patience))?;
                break;
            }
        }
    }
    Ok(())
}

/// Waits until no address shows the bundle any more; one where nobody answers does not.
pub(crate) async fn wait_gone(addresses: &[SocketAddr], bundle: &Bundle, patience: Duration) -> Result<()> {
    let deadline = Deadline::after(patience);
    for address in addresses {
        let mut gone = 0;
        while gone < IN_A_ROW {
            match probe::verify_served(*address, bundle, Deadline::after(LOOK)).await {
                Ok(()) => gone = 0,
                Err(_) => gone += 1,
            }
            if gone < IN_A_ROW && !deadline.sleep(PAUSE).await {
                if gone > 0 {
                    break;
                }
                return Err(Error::new(ErrorKind::Deploy, "files.remove", "it is still served")
                    .with("address", address)
                    .with("waited", format!("{patience:?}")));
            }
        }
    }
    Ok(())
}

fn late(seen: Error, patience: Duration) -> Error {
    seen.with("waited", format!("{patience:?}")).with_retry(Retry::Backoff)
}

/// In a few words: what an address shows, where it was not what it should be.
pub(crate) fn seen(error: &Error) -> String {
    let value = |key| error.context().find(|(name, _)| *name == key).map(|(_, value)| value);
    match (error.kind(), value("served_serial")) {
        (ErrorKind::Deploy, Some(serial)) => format!("the certificate with serial {serial}"),
        _ => format!("nothing that could be seen ({})", error.message()),
    }
}

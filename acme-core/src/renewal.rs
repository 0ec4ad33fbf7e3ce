//! When a certificate is due.

use std::time::{Duration, SystemTime};

use crate::CertificateFacts;

/// Certificates that live shorter than this are renewed at half of their life.
const SHORT_LIVED: Duration = Duration::from_secs(10 * 24 * 3600);

/// When a certificate should be renewed by its lifetime alone: at two thirds of it, or at one half
/// if it lives less than ten days (Let's Encrypt's integration guide).
pub fn due(facts: &CertificateFacts) -> SystemTime {
    let life = facts.not_after.duration_since(facts.not_before).unwrap_or_default();
    let after = if life < SHORT_LIVED { life / 2 } else { life * 2 / 3 };
    facts.not_before + after
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::UNIX_EPOCH;

    use super::*;

    fn facts(life: Duration) -> CertificateFacts {
        CertificateFacts {
            serial: String::new(),
            sha256: String::new(),
            identifiers: BTreeSet::new(),
            not_before: UNIX_EPOCH,
            not_after: UNIX_EPOCH + life,
            ari_id: None,
            issuer: String::new(),
            root: String::new(),
        }
    }

    #[test]
    fn long_and_short_lives_have_their_share() {
        let hours = |count| Duration::from_secs(3600 * count);
        for (life, want) in
            [(hours(90 * 24), hours(60 * 24)), (hours(45 * 24), hours(30 * 24)), (hours(160), hours(80))]
        {
            assert_eq!(due(&facts(life)), UNIX_EPOCH + want);
        }
    }
}

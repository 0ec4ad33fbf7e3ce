//! What a person has to set once for dns-persist-01.

use super::Pipeline;
use crate::dns::issue_value::is_issuer;
use crate::solvers::StandingRecord;
use crate::{CertificateSpec, Error, ErrorKind, Identifier, Result};

impl Pipeline {
    /// The records that dns-persist-01 needs for the names of a spec, at the authority it wants or else the preferred one;
    /// one for each domain, with `policy=wildcard` where the spec has the wildcard, too.
    ///
    /// They name the account, which is made if there is none yet.
    ///
    /// # Errors
    /// `Config` if the CA does not say by which names it goes (`caaIdentities`, RFC 8555 section 9.7.6), or there is no such
    /// authority; `Unavailable`/`Timeout`.
    pub async fn standing_records(&self, spec: &CertificateSpec) -> Result<Vec<StandingRecord>> {
        let connection = self.connection_for(spec)?;
        let issuer =
            connection.ca.caa_identities().await?.iter().find(|name| is_issuer(name)).ok_or_else(|| {
                let why = "the CA does not say by which names it goes (`caaIdentities`)";
                Error::new(ErrorKind::Config, "pipeline.standing_records", why)
                    .with("authority", connection.id())
                    .with_hint(
                        "ask the CA whether it offers dns-persist-01, and which name stands in the record",
                    )
            })?;
        let account = self.account(connection, spec.id()).await?;
        let mut records: Vec<StandingRecord> = Vec::new();
        for identifier in spec.identifiers() {
            let Some(domain) = identifier.domain() else { continue };
            let wildcard = matches!(identifier, Identifier::Wildcard(_));
            match records.iter_mut().find(|record| record.domain == *domain) {
                Some(record) => record.wildcard |= wildcard,
                None => {
                    let mut record = StandingRecord::new(domain.clone(), issuer, &account.url);
                    record.wildcard = wildcard;
                    records.push(record);
                }
            }
        }
        Ok(records)
    }
}

//! The zones of a provider that has no list of them.

use super::Resolver;
use crate::{Deadline, DnsName, ErrorKind, Result, Zone};

/// The zones of a provider whose vendor, or program, cannot be asked for them: named one by one, or looked for in the
/// DNS.
///
/// ```
/// use acmekit_core::dns::Zones;
/// let zones = Zones::new(vec!["example.com".parse()?], None)?;
/// # Ok::<(), acmekit_core::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Zones(Known);

#[derive(Debug, Clone)]
enum Known {
    Named(Vec<DnsName>),
    /// Who looks for them.
    Found(Resolver),
}

impl Zones {
    /// These; if there are none, those that the DNS has: `resolver` is asked then, or the machine's own.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] if there are neither zones nor a resolver, and this machine has none.
    pub fn new(named: Vec<DnsName>, resolver: Option<Resolver>) -> Result<Self> {
        Ok(Self(match (named.is_empty(), resolver) {
            (false, _) => Known::Named(named),
            (true, Some(resolver)) => Known::Found(resolver),
            (true, None) => Known::Found(Resolver::system()?),
        }))
    }

    /// The longest of the named zones that holds the name. Where none are named, the zone that the DNS says the name
    /// is in: then there is one for every name that is in a zone at all.
    ///
    /// # Errors
    /// `Unavailable`/`Timeout` if the DNS has to be asked and does not answer.
    pub async fn holding(&self, name: &DnsName, deadline: Deadline) -> Result<Option<Zone>> {
        let apex = match &self.0 {
            Known::Named(zones) => name.ancestors().find(|candidate| zones.contains(candidate)),
            Known::Found(resolver) => match resolver.zone_apex(name, deadline).await {
                Ok(apex) => Some(apex),
                Err(error) if error.kind() == ErrorKind::ZoneNotFound => None,
                Err(error) => return Err(error),
            },
        };
        Ok(apex.map(Zone::new))
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Fake, name, soon};
    use super::*;

    #[tokio::test]
    async fn the_longest_of_the_named_zones_holds_a_name() {
        let zones = Zones::new(vec![name("a.test"), name("deep.a.test")], None).unwrap();
        let holding =
            async |text: &str| zones.holding(&name(text), soon()).await.unwrap().map(|zone| zone.name);
        assert_eq!(holding("www.deep.a.test").await, Some(name("deep.a.test")));
        assert_eq!(holding("deep.a.test").await, Some(name("deep.a.test")));
        assert_eq!(holding("www.a.test").await, Some(name("a.test")));
        assert_eq!(holding("www.nota.test").await, None);
    }

    #[tokio::test]
    async fn without_named_zones_the_dns_is_asked() {
        let server = Fake::with("zone.test", vec![]).await;
        let zones = Zones::new(vec![], Some(server.resolver())).unwrap();
        let found = zones.holding(&name("a.b.zone.test"), soon()).await.unwrap();
        assert_eq!(found, Some(Zone::new(name("zone.test"))));
    }
}

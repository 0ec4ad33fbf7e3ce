//! The Relevant RRset of names, and what it says for all identifiers of an order.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::{FutureExt, StreamExt, TryStreamExt, stream};

use super::{CaaObstacle, CaaRequest, CaaSet, CaaVerdict};
use crate::dns::Resolver;
use crate::dns::query::{Kind, Value};
use crate::{ChallengeKind, Deadline, DnsName, Error, ErrorKind, Identifier, Result};

/// How many names are asked for at once.
const PARALLEL_LOOKUPS: usize = 8;
/// How many identifiers an error names one by one.
const NAMED: usize = 5;

impl Resolver {
    /// The CAA records that count for a name: its own, else those of the nearest parent that has some, up to and
    /// with the top-level domain; `None` if there are none at all (RFC 8659 section 3).
    ///
    /// A CNAME is followed, but nobody climbs from where it leads: the next one asked is the parent of the name
    /// itself. For a wildcard, ask for the name without `*.`.
    ///
    /// # Errors
    /// `Unavailable`/`Timeout` if one of the names cannot be looked up. A CA does not take that for "no records".
    pub async fn relevant_caa(&self, name: &DnsName, deadline: Deadline) -> Result<Option<CaaSet>> {
        for name in name.ancestors() {
            if let Some(set) = self.caa_of(&name, deadline).await? {
                return Ok(Some(set));
            }
        }
        Ok(None)
    }

    /// The records of this name only; `None` if it has none, or does not exist.
    async fn caa_of(&self, name: &DnsName, deadline: Deadline) -> Result<Option<CaaSet>> {
        let answer = self.recurse(name, Kind::Caa, deadline).await.map_err(|error| unknown(name, error))?;
        let mut at = None;
        let mut records = Vec::new();
        for data in answer.answers {
            if let Value::Property(record) = data.value {
                // Behind a CNAME, where it leads.
                at = Some(data.owner);
                records.push(record);
            }
        }
        Ok(at.map(|at| CaaSet { at, records }))
    }
}

/// Looks whether CAA records let a CA issue for all of these, before it is asked to.
///
/// Answers with which challenges, for each. Addresses have no CAA records. Names are asked for eight at a time, each
/// one once, however many identifiers are below it.
///
/// ```no_run
/// use acmekit_core::dns::{CaaRequest, Resolver, check_caa};
/// use acmekit_core::{ChallengeKind, Deadline, Identifier};
///
/// # async fn example() -> acmekit_core::Result<()> {
/// let names: Vec<Identifier> = vec!["example.com".parse()?, "*.example.com".parse()?];
/// let request = CaaRequest::new(["letsencrypt.org"], [ChallengeKind::Dns01]);
/// let deadline = Deadline::after(std::time::Duration::from_secs(30));
/// check_caa(&Resolver::system()?, &names, &request, deadline).await?;
/// # Ok(()) }
/// ```
///
/// # Errors
/// [`ErrorKind::Rejected`] if one is forbidden, with the records found, where they stand, and in the hint the one that
/// would allow it; `Unavailable`/`Timeout` if a name cannot be looked up.
pub async fn check_caa(
    resolver: &Resolver,
    identifiers: impl IntoIterator<Item = &Identifier>,
    request: &CaaRequest,
    deadline: Deadline,
) -> Result<BTreeMap<Identifier, BTreeSet<ChallengeKind>>> {
    let identifiers: BTreeSet<&Identifier> = identifiers.into_iter().collect();
    let domains = identifiers.iter().filter_map(|identifier| identifier.domain());
    // Who cannot be looked for is not looked for.
    let sets = match request.issuers().next() {
        Some(_) => look_up(resolver, domains.cloned().collect(), deadline).await?,
        None => BTreeMap::new(),
    };
    let mut allowed = BTreeMap::new();
    let mut forbidden = Vec::new();
    for identifier in identifiers {
        let wildcard = identifier.is_wildcard();
        let set = identifier.domain().and_then(|domain| relevant(&sets, domain));
        match set.map(|set| (set, set.decide(wildcard, request))) {
            None => drop(allowed.insert(identifier.clone(), request.usable(wildcard))),
            Some((_, CaaVerdict::Allowed { challenges })) => {
                allowed.insert(identifier.clone(), challenges);
            }
            Some((set, CaaVerdict::Forbidden { why, .. })) => forbidden.push((identifier, set, why)),
        }
    }
    match refusal(&forbidden, request) {
        Some(error) => Err(error),
        None => Ok(allowed),
    }
}

type Sets = BTreeMap<DnsName, Option<CaaSet>>;

/// Asks for all names, then for the parents of those that have nothing, and so on up.
async fn look_up(resolver: &Resolver, names: BTreeSet<DnsName>, deadline: Deadline) -> Result<Sets> {
    let mut sets = Sets::new();
    let mut wanted = names;
    while !wanted.is_empty() {
        let lookups: Vec<_> = wanted
            .into_iter()
            .map(|name| async move { Ok((resolver.caa_of(&name, deadline).await?, name)) }.boxed())
            .collect();
        let found: Vec<(Option<CaaSet>, DnsName)> =
            stream::iter(lookups).buffered(PARALLEL_LOOKUPS).try_collect().await?;
        let parents: BTreeSet<DnsName> =
            found.iter().filter(|(set, _)| set.is_none()).filter_map(|(_, name)| name.parent()).collect();
        sets.extend(found.into_iter().map(|(set, name)| (name, set)));
        wanted = parents.into_iter().filter(|name| !sets.contains_key(name)).collect();
    }
    Ok(sets)
}

fn relevant<'a>(sets: &'a Sets, domain: &DnsName) -> Option<&'a CaaSet> {
    domain.ancestors().find_map(|name| sets.get(&name)?.as_ref())
}

/// A lookup that fails: most likely the CA's does, too.
fn unknown(name: &DnsName, error: Error) -> Error {
    let told = Error::new(
        error.kind(),
        "dns.caa",
        format!(
            "whether CAA records of {name} forbid the certificate cannot be looked up: {}",
            error.message()
        ),
    )
    .with("name", name);
    error
        .context()
        .filter(|(key, _)| *key != "name")
        .fold(told, |told, (key, value)| told.with(key, value))
        .with_retry(error.retry())
        .with_hint("unless it is only this machine's resolver, the CA will see this too and refuse (RFC 8659 section 6, Baseline Requirements 3.2.2.8); often it is DNSSEC, or a name server that does not know the type CAA: try `dig CAA` for this name")
        .with_source(error)
}

/// One error for all that is forbidden: the first of it at length, the rest by name.
fn refusal(forbidden: &[(&Identifier, &CaaSet, CaaObstacle)], request: &CaaRequest) -> Option<Error> {
    let ((identifier, set, why), others) = forbidden.split_first()?;
    let records: Vec<String> = set.records.iter().map(ToString::to_string).collect();
    let mut error = Error::new(
        ErrorKind::Rejected,
        "dns.caa",
        format!("the CAA records at {} do not let this CA issue for {identifier}: {why}", set.at),
    )
    .with("identifier", identifier)
    .with("at", &set.at)
    .with("records", records.join("; "))
    .with("issuer", request.issuers().collect::<Vec<_>>().join(" or "))
    .with_hint(hint(identifier, set, why, request));
    if !others.is_empty() {
        let mut named: Vec<String> =
            others.iter().take(NAMED).map(|(identifier, ..)| identifier.to_string()).collect();
        if others.len() > NAMED {
            named.push(format!("and {} more", others.len() - NAMED));
        }
        error = error.with("also_forbidden", named.join(", "));
    }
    Some(error)
}

fn hint(identifier: &Identifier, set: &CaaSet, why: &CaaObstacle, request: &CaaRequest) -> String {
    if let CaaObstacle::UnknownCritical(tag) = why {
        return format!(
            "take the property `{tag}` away from {}., or its critical flag: 0 in place of 128",
            set.at
        );
    }
    // A top-level domain is somebody else's; records nearer to the name count before its.
    let owner = identifier.domain().filter(|_| set.at.parent().is_none()).unwrap_or(&set.at);
    format!("add this record: {owner}. CAA {}", set.remedy(identifier.is_wildcard(), request))
}

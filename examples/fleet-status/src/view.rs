//! A status as numbers and words: pure, for whatever shows them.

use std::time::{Duration, SystemTime};

use acmekit::backoff::{Class, Trouble};
use acmekit::manager::{AuthorityStatus, CertificateStatus, State, Status, Task};
use acmekit::renewal::Reason;

use crate::tally::Tally;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// "Soon" is within this time.
const SOON: Duration = Duration::from_secs(7 * 24 * 3600);
/// How many certificates the table has.
const ROWS: usize = 10;

/// How many certificates stand how.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    pub(crate) all: usize,
    pub(crate) issued: usize,
    pub(crate) soon: usize,
    pub(crate) waiting: usize,
    pub(crate) troubled: usize,
}

impl Counts {
    pub(crate) fn of(status: &Status) -> Self {
        let count = |fits: &dyn Fn(&CertificateStatus) -> bool| {
            status.certificates.iter().filter(|one| fits(one)).count()
        };
        Self {
            all: status.certificates.len(),
            issued: count(&|one| one.serial.is_some()),
            soon: count(&|one| one.renewal.is_some_and(|renewal| renewal.at <= status.at + SOON)),
            // Those that only wait to ask the CA when they are due lack nothing.
            waiting: count(&|one| one.state == State::Waiting && to_be_issued(one)),
            troubled: count(&|one| one.trouble.is_some()),
        }
    }
}

fn to_be_issued(one: &CertificateStatus) -> bool {
    one.next.is_some_and(|next| next.task == Task::Issue)
}

/// What an authority's line says: what is left of its budget, how much of the fleet is from it, whether it is down.
pub(crate) fn authority(authority: &AuthorityStatus, status: &Status, tally: &Tally) -> String {
    let from = |one: &&CertificateStatus| one.authority.as_ref() == Some(&authority.id);
    let held = status.certificates.iter().filter(from).count();
    let left = authority.budget.orders.map_or_else(|| "no limit".to_owned(), |left| format!("{left} left"));
    // It is tried again at least once an hour: between two looks it may have been down and up.
    let down = match tally.down_until(&authority.id) {
        Some(until) if until > status.at => format!(", down until {}", moment(until)),
        Some(until) if until + DAY > status.at => format!(", was down until {}", moment(until)),
        _ => String::new(),
    };
    format!("{left}, {held} certificates{down}")
}

/// The table of those that need attention most: a line for each, and one for each trouble.
pub(crate) fn table(status: &Status) -> Vec<String> {
    let mut all: Vec<&CertificateStatus> = status.certificates.iter().collect();
    all.sort_by_key(|one| urgency(one, status.at));
    let mut lines = vec![line("CERTIFICATE", "GROUP", "FROM", "EXPIRES", "STATE", "NEXT, AND WHY")];
    for one in all.into_iter().take(ROWS) {
        lines.push(row(one, status.at));
        lines.extend(one.trouble.as_ref().map(|trouble| format!("  {}", words(trouble))));
    }
    lines
}

/// Whoever needs a person comes first, then what is in trouble, then what is missing, then what expires first.
fn urgency(one: &CertificateStatus, now: SystemTime) -> (u8, Option<SystemTime>, &str) {
    let expired = one.not_after.is_some_and(|not_after| not_after <= now);
    let rank = match () {
        () if expired || one.needs_person() => 0,
        () if one.trouble.is_some() => 1,
        () if one.serial.is_none() => 2,
        () => 3,
    };
    (rank, one.not_after, one.id.as_str())
}

fn row(one: &CertificateStatus, now: SystemTime) -> String {
    let expires = match one.not_after {
        Some(at) if at <= now => "EXPIRED".to_owned(),
        Some(at) => until(at, now),
        None => "not issued".to_owned(),
    };
    let from = one.authority.as_deref().unwrap_or("-");
    line(&name(one), &one.group, from, &expires, state(one.state), &next(one, now))
}

fn line(name: &str, group: &str, from: &str, expires: &str, state: &str, next: &str) -> String {
    format!("{name:<22} {group:<8} {from:<9} {expires:<10} {state:<9} {next}")
}

/// The next task, when, and why; and when it is to be had anew, where that is another task.
fn next(one: &CertificateStatus, now: SystemTime) -> String {
    let Some(next) = one.next else { return "nothing by itself".to_owned() };
    let when = until(next.at, now);
    match next.task {
        Task::Issue => format!("issue {when}: {}", why(one)),
        Task::Deploy => format!("deploy {when}: it is not served yet"),
        _ => format!("ask the CA {when}; issue {}: {}", issue(one, now), why(one)),
    }
}

/// When it is to be had anew.
fn issue(one: &CertificateStatus, now: SystemTime) -> String {
    let due = one.renewal.map(|renewal| renewal.at);
    let again = one.trouble.as_ref().map(|trouble| trouble.retry_at);
    due.max(again).map_or_else(|| "soon".to_owned(), |at| until(at, now))
}

fn why(one: &CertificateStatus) -> &'static str {
    match (&one.trouble, one.renewal) {
        (Some(_), _) => "again after a failure",
        (None, Some(renewal)) => reason(renewal.reason),
        (None, None) if one.state == State::Waiting => "the first one, as the budget allows",
        (None, None) => "the first one",
    }
}

/// What went wrong, and what can be done about it.
pub(crate) fn words(trouble: &Trouble) -> String {
    let hint = trouble.hint.as_deref().map(|hint| format!("; hint: {hint}")).unwrap_or_default();
    format!("{}, failures: {}{hint}; {}", class(trouble.class), trouble.failures, trouble.error)
}

/// Its first name.
pub(crate) fn name(one: &CertificateStatus) -> String {
    one.names.first().cloned().unwrap_or_else(|| one.id.to_string())
}

pub(crate) fn class(class: Class) -> &'static str {
    match class {
        Class::Transient => "transient",
        Class::RateLimited => "rate limited",
        Class::NeedsPerson => "needs a person",
        Class::Fatal => "fatal",
        _ => "trouble",
    }
}

fn state(state: State) -> &'static str {
    match state {
        State::Resting => "resting",
        State::Waiting => "waiting",
        State::Issuing => "issuing",
        State::Deploying => "deploying",
        State::Asking => "asking",
        State::Paused => "paused",
        _ => "other",
    }
}

fn reason(reason: Reason) -> &'static str {
    match reason {
        Reason::Suggested => "the CA suggests it",
        Reason::Lifetime => "by its lifetime",
        Reason::Maintenance => "in a maintenance window",
        Reason::TooYoung => "too young before",
        Reason::Emergency => "or it is too late",
        _ => "another reason",
    }
}

fn until(at: SystemTime, now: SystemTime) -> String {
    match at.duration_since(now) {
        Ok(left) if left.as_secs() >= 48 * 3600 => format!("in {} d", left.as_secs() / (24 * 3600)),
        Ok(left) if left.as_secs() >= 3600 => format!("in {} h", left.as_secs() / 3600),
        Ok(left) if left.as_secs() >= 60 => format!("in {} min", left.as_secs() / 60),
        _ => "now".to_owned(),
    }
}

/// A point in time, to the minute, in UTC.
pub(crate) fn moment(at: SystemTime) -> String {
    let stamp = jiff::Timestamp::try_from(at).unwrap_or_default();
    stamp.strftime("%Y-%m-%d %H:%M").to_string()
}

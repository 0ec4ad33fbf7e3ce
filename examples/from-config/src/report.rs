//! What became of each certificate, for a person or a program.

use std::fmt::Write;
use std::time::SystemTime;

use acmekit::backoff::{Class, Trouble};
use acmekit::config::Wanted;
use acmekit::{Error, ErrorKind, Result};
use serde::Serialize;

/// All certificates, in the order of the configuration.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) certificates: Vec<Row>,
    /// What failed that belongs to no certificate.
    pub(crate) errors: Vec<Failure>,
}

/// One certificate.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) id: String,
    pub(crate) names: Vec<String>,
    pub(crate) group: Option<String>,
    /// Where the configuration asks for it.
    pub(crate) place: String,
    pub(crate) state: State,
    /// Why it is in this state, or what would be done.
    pub(crate) note: Option<String>,
    pub(crate) serial: Option<String>,
    /// RFC 3339, as is `renew_at`.
    pub(crate) valid_until: Option<String>,
    pub(crate) renew_at: Option<String>,
    pub(crate) deployments: Vec<Place>,
    pub(crate) error: Option<Failure>,
}

/// In which state a certificate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum State {
    /// It was ordered in this run.
    Issued,
    /// It is stored, what is wanted, and not due.
    Valid,
    /// The next run renews it.
    Due,
    /// The stored one is not what is wanted any more; the next run orders another.
    Unfit,
    /// It has expired.
    Expired,
    /// There is none.
    Missing,
    /// It is its turn in a later run: the CA's limits, or somebody else, come first.
    Waiting,
    /// The run was interrupted before its turn ended.
    Interrupted,
    /// It could not be had, or not be looked at.
    Failed,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Issued => "issued",
            Self::Valid => "valid",
            Self::Due => "due",
            Self::Unfit => "unfit",
            Self::Expired => "expired",
            Self::Missing => "missing",
            Self::Waiting => "waiting",
            Self::Interrupted => "interrupted",
            Self::Failed => "failed",
        }
    }
}

/// One deployer of a certificate.
#[derive(Debug, Serialize)]
pub(crate) struct Place {
    pub(crate) deployer: String,
    /// `applied`, `current`, `failed`, `waiting`; in a dry run `would-deploy`.
    pub(crate) state: &'static str,
    pub(crate) error: Option<Failure>,
}

/// An error as a person acts on it.
#[derive(Debug, Serialize)]
pub(crate) struct Failure {
    /// Whether it may be over by itself, or not.
    pub(crate) class: Class,
    pub(crate) message: String,
    pub(crate) hint: Option<String>,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self { class: Class::of(error), message: error.to_string(), hint: error.hint().map(str::to_owned) }
    }
}

impl From<&Trouble> for Failure {
    fn from(trouble: &Trouble) -> Self {
        Self { class: trouble.class, message: trouble.error.clone(), hint: trouble.hint.clone() }
    }
}

impl Row {
    pub(crate) fn new(wanted: &Wanted, state: State) -> Self {
        Self {
            id: wanted.spec.id().to_string(),
            names: wanted.spec.identifiers().iter().map(ToString::to_string).collect(),
            group: wanted.group.clone(),
            place: wanted.place.clone(),
            state,
            note: None,
            serial: None,
            valid_until: None,
            renew_at: None,
            deployments: Vec::new(),
            error: None,
        }
    }

    pub(crate) fn failed(wanted: &Wanted, error: &Error) -> Self {
        Self { error: Some(Failure::from(error)), ..Self::new(wanted, State::Failed) }
    }
}

impl Report {
    /// Whether nothing needs a person.
    pub(crate) fn is_well(&self) -> bool {
        let well = |row: &Row| {
            row.error.is_none()
                && !matches!(row.state, State::Failed | State::Interrupted)
                && row.deployments.iter().all(|place| place.error.is_none())
        };
        self.errors.is_empty() && self.certificates.iter().all(well)
    }

    pub(crate) fn json(&self) -> Result<String> {
        let text = serde_json::to_string_pretty(self).map_err(|e| {
            Error::new(ErrorKind::Other, "from-config", "no JSON could be made").with_source(e)
        })?;
        Ok(text + "\n")
    }

    /// One line each, and below it what is wrong.
    pub(crate) fn table(&self) -> String {
        let head = ["CERTIFICATE", "STATE", "VALID UNTIL", "RENEW AT", "DEPLOYED"].map(str::to_owned);
        let cells: Vec<[String; 5]> =
            std::iter::once(head).chain(self.certificates.iter().map(cells)).collect();
        let width =
            |column: usize| cells.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let widths: [usize; 5] = std::array::from_fn(width);
        let mut out = String::new();
        let mut rows = cells.into_iter();
        let line = |row: &[String; 5]| {
            let padded: Vec<String> =
                row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
            format!("{}\n", padded.join("  ").trim_end())
        };
        out.extend(rows.next().map(|head| line(&head)));
        for (row, cells) in self.certificates.iter().zip(rows) {
            out.push_str(&line(&cells));
            if let Some(note) = &row.note {
                tell(&mut out, "", note, None);
            }
            if let Some(error) = &row.error {
                tell(&mut out, "error: ", &error.message, error.hint.as_deref());
                tell(&mut out, "asked for by: ", &row.place, None);
            }
            for place in &row.deployments {
                if let Some(error) = &place.error {
                    tell(&mut out, &format!("{}: ", place.deployer), &error.message, error.hint.as_deref());
                }
            }
        }
        for error in &self.errors {
            tell(&mut out, "error: ", &error.message, error.hint.as_deref());
        }
        let failed = self.certificates.iter().filter(|row| row.error.is_some()).count();
        let issued = self.certificates.iter().filter(|row| row.state == State::Issued).count();
        // Text grows without end: writing into it cannot fail.
        write!(out, "\n{} certificates, {issued} issued, {failed} failed\n", self.certificates.len()).ok();
        out
    }
}

/// An error as compilers show theirs, so that an editor finds the place; one line for each mistake.
pub(crate) fn complaint(error: &Error) -> String {
    let said = |name: &str| error.context().find(|(key, _)| *key == name).map(|(_, value)| value);
    let Some(file) = said("file") else { return error.report() + "\n" };
    let mut out = file.to_owned();
    for place in [said("line"), said("column")].into_iter().flatten() {
        out.push_str(&format!(":{place}"));
    }
    out.push_str(": ");
    out.extend(said("key").map(|key| format!("{key}: ")));
    out.push_str(error.message());
    for (name, value) in error.context() {
        if !matches!(name, "file" | "line" | "column" | "key" | "also") {
            out.push_str(&format!(" ({name}={value})"));
        }
    }
    out.push('\n');
    out.extend(error.hint().map(|hint| format!("  hint: {hint}\n")));
    out.extend(
        error.context().filter(|(name, _)| *name == "also").map(|(_, text)| format!("  also: {text}\n")),
    );
    out
}

fn tell(out: &mut String, before: &str, text: &str, hint: Option<&str>) {
    out.push_str(&format!("    {before}{text}\n"));
    if let Some(hint) = hint {
        out.push_str(&format!("    hint: {hint}\n"));
    }
}

fn cells(row: &Row) -> [String; 5] {
    let or_dash = |text: Option<&String>| text.map_or_else(|| "-".to_owned(), |text| text.replace('T', " "));
    let deployed: Vec<String> =
        row.deployments.iter().map(|place| format!("{} {}", place.deployer, place.state)).collect();
    [
        row.id.clone(),
        row.state.as_str().to_owned(),
        or_dash(row.valid_until.as_ref()),
        or_dash(row.renew_at.as_ref()),
        if deployed.is_empty() { "-".to_owned() } else { deployed.join(", ") },
    ]
}

/// RFC 3339 in whole seconds; nothing for a time that no calendar has.
pub(crate) fn rfc3339(time: SystemTime) -> Option<String> {
    let stamp = jiff::Timestamp::try_from(time).ok()?;
    Some(jiff::Timestamp::from_second(stamp.as_second()).ok()?.to_string())
}

//! What is wrong with a configuration, and where: everything at once, as one error.

use std::fmt;
use std::path::PathBuf;

use acmekit_core::{Error, ErrorKind};

/// How many problems beside the first are told: more than a person reads at once.
const ALSO: usize = 20;

/// A place in a text, counted from one; columns are characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

/// One thing that is wrong.
#[derive(Debug)]
pub(super) struct Problem {
    /// Another file than the configuration itself.
    pub(super) file: Option<PathBuf>,
    pub(super) place: Option<Place>,
    /// Its dotted key, such as `certificates[2].names`.
    pub(super) key: String,
    /// The value; never a secret.
    pub(super) value: Option<String>,
    pub(super) why: String,
    pub(super) hint: Option<String>,
    /// The values of the error it was made from.
    more: Vec<(&'static str, String)>,
}

impl Problem {
    pub(super) fn new(key: impl Into<String>, why: impl Into<String>) -> Self {
        Self {
            file: None,
            place: None,
            key: key.into(),
            value: None,
            why: why.into(),
            hint: None,
            more: Vec::new(),
        }
    }

    /// What a part of acmekit refused, at this key.
    pub(super) fn of(key: impl Into<String>, error: &Error) -> Self {
        let mut problem = Self::new(key, error.message());
        problem.hint = error.hint().map(str::to_owned);
        problem.more = error.context().map(|(name, value)| (name, value.to_owned())).collect();
        problem
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    pub(super) fn value(mut self, value: impl fmt::Display) -> Self {
        self.value = Some(shown(&value.to_string()));
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{} ", file.display())?;
        }
        if let Some(place) = self.place {
            write!(f, "line {}: ", place.line)?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.why)?;
        if let Some(value) = &self.value {
            write!(f, " ({value})")?;
        }
        match &self.hint {
            Some(hint) => write!(f, "; {hint}"),
            None => Ok(()),
        }
    }
}

/// A value as an error may show it: one line, not too long.
pub(super) fn shown(value: &str) -> String {
    const MAX: usize = 80;
    let mut out = String::new();
    for c in value.chars().take(MAX) {
        match c.is_control() {
            true => out.extend(c.escape_debug()),
            false => out.push(c),
        }
    }
    if value.chars().nth(MAX).is_some() {
        out.push('…');
    }
    out
}

/// All that is wrong, as one error: the first in the order of the text, and the others listed.
pub(super) fn error(
    op: &'static str,
    file: Option<&PathBuf>,
    mut problems: Vec<Problem>,
) -> Result<(), Error> {
    // Those of the configuration itself come first, and last what has no place: it is about the whole.
    problems.sort_by_key(|problem| (problem.file.clone(), problem.place.is_none(), problem.place));
    let mut problems = problems.into_iter();
    let Some(first) = problems.next() else { return Ok(()) };
    let mut error = Error::new(ErrorKind::Config, op, first.why);
    if let Some(file) = first.file.as_ref().or(file) {
        error = error.with("file", file.display());
    }
    if let Some(place) = first.place {
        error = error.with("line", place.line).with("column", place.column);
    }
    if !first.key.is_empty() {
        error = error.with("key", first.key);
    }
    if let Some(value) = first.value {
        error = error.with("value", value);
    }
    for (name, value) in first.more {
        error = error.with(name, value);
    }
    if let Some(hint) = first.hint {
        error = error.with_hint(hint);
    }
    let rest = problems.len();
    for problem in problems.by_ref().take(ALSO) {
        error = error.with("also", problem);
    }
    if rest > ALSO {
        error = error.with("and_more", rest - ALSO);
    }
    Err(error)
}

/// The known word that `given` is most likely meant to be, if there is one.
pub(super) fn nearest<'w>(given: &str, known: impl IntoIterator<Item = &'w str>) -> Option<&'w str> {
    let plain = |word: &str| word.to_lowercase().replace('-', "_");
    let given = plain(given);
    let (distance, word) =
        known.into_iter().map(|word| (distance(&given, &plain(word)), word)).min_by_key(|pair| pair.0)?;
    (distance <= 1 + given.chars().count() / 3).then_some(word)
}

/// How many letters to insert, delete or exchange (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    // Nobody misspells that much, and a long word must not cost the square of its length.
    if one.len() > 64 || other.len() > 64 {
        return usize::MAX;
    }
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut next = vec![i + 1];
        for (j, (b, above)) in other.iter().zip(row.windows(2)).enumerate() {
            let [diagonal, above] = above else { continue };
            let left = next.get(j).copied().unwrap_or(usize::MAX);
            next.push((diagonal + usize::from(a != *b)).min(above + 1).min(left.saturating_add(1)));
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_found_and_nothing_far_away() {
        let known = ["names", "key_type", "preferred_chain", "id"];
        assert_eq!(nearest("name", known), Some("names"));
        assert_eq!(nearest("key-type", known), Some("key_type"));
        assert_eq!(nearest("Keytyp", known), Some("key_type"));
        assert_eq!(nearest("zzzzzz", known), None);
        assert_eq!(nearest(&"x".repeat(1000), known), None);
    }

    #[test]
    fn all_problems_are_one_error_the_first_in_front() {
        let at = |line| Some(Place { line, column: 1 });
        let mut later = Problem::new("b", "second");
        later.place = at(9);
        let mut sooner = Problem::new("a", "first").value("x\ny");
        sooner.place = at(2);
        let told = error("config.parse", Some(&PathBuf::from("f.toml")), vec![later, sooner]).unwrap_err();
        assert_eq!(
            told.to_string(),
            "config.parse: first (file=f.toml, line=2, column=1, key=a, value=x\\ny, also=line 9: b: second)"
        );
        assert!(error("config.parse", None, Vec::new()).is_ok());
    }
}

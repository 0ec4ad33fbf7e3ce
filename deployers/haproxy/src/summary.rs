//! One answer about several instances.

use acmekit_core::{Error, ErrorKind, Outcome, Result, Retry};

/// What became of one instance.
#[derive(Debug)]
pub(crate) enum Fate {
    Applied,
    Current,
    Failed(Error),
    /// One before it failed in a way that would repeat itself.
    NotTried,
}

/// `AlreadyCurrent` only if all were; an error if one failed, telling the fate of each.
pub(crate) fn summarise(op: &'static str, mut fates: Vec<(String, Fate)>) -> Result<Outcome> {
    let failed = fates.iter().filter(|(_, fate)| matches!(fate, Fate::Failed(_) | Fate::NotTried)).count();
    if failed == 0 {
        let current = fates.iter().all(|(_, fate)| matches!(fate, Fate::Current));
        return Ok(if current { Outcome::AlreadyCurrent } else { Outcome::Applied });
    }
    if let [(label, Fate::Failed(_))] = fates.as_slice() {
        let label = label.clone();
        if let Some((_, Fate::Failed(error))) = fates.pop() {
            return Err(error.with("instance", label));
        }
    }
    let mut kinds = Vec::new();
    let mut again = false;
    let mut told = Vec::new();
    let mut first = None;
    let count = fates.len();
    for (label, fate) in fates {
        told.push(match &fate {
            Fate::Applied => format!("{label}: done"),
            Fate::Current => format!("{label}: has been so before"),
            Fate::NotTried => format!("{label}: not tried"),
            Fate::Failed(error) => format!("{label}: {error}"),
        });
        if let Fate::Failed(error) = fate {
            kinds.push(error.kind());
            again |= error.retry() != Retry::Never;
            first.get_or_insert(error);
        }
    }
    let same = kinds.first().copied().filter(|kind| kinds.iter().all(|other| other == kind));
    let why = format!("{failed} of {count} instances failed: {}", told.join("; "));
    let error = Error::new(same.unwrap_or(ErrorKind::Deploy), op, why).with_retry(if again {
        Retry::Backoff
    } else {
        Retry::Never
    });
    Err(match first {
        Some(first) => {
            let error = match first.hint() {
                Some(hint) => error.with_hint(hint.to_owned()),
                None => error,
            };
            error.with_source(first)
        }
        None => error,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fate(label: &str, fate: Fate) -> (String, Fate) {
        (label.to_owned(), fate)
    }

    fn down() -> Error {
        Error::new(ErrorKind::Unavailable, "x", "nobody answers")
    }

    #[test]
    fn it_is_current_only_if_all_are() {
        let one = summarise("x", vec![fate("a", Fate::Current), fate("b", Fate::Current)]).unwrap();
        assert_eq!(one, Outcome::AlreadyCurrent);
        let two = summarise("x", vec![fate("a", Fate::Current), fate("b", Fate::Applied)]).unwrap();
        assert_eq!(two, Outcome::Applied);
    }

    #[test]
    fn a_partial_failure_tells_the_fate_of_each() {
        let fates =
            vec![fate("a", Fate::Applied), fate("b", Fate::Failed(down())), fate("c", Fate::NotTried)];
        let error = summarise("x", fates).unwrap_err();
        assert_eq!((error.kind(), error.retry()), (ErrorKind::Unavailable, Retry::Backoff));
        let said = error.to_string();
        for part in ["2 of 3 instances", "a: done", "b: x: nobody answers", "c: not tried"] {
            assert!(said.contains(part), "{said}");
        }
    }

    #[test]
    fn a_single_instance_speaks_for_itself() {
        let error = summarise("x", vec![fate("a", Fate::Failed(down()))]).unwrap_err();
        assert_eq!(error.to_string(), "x: nobody answers (instance=a)");
    }
}

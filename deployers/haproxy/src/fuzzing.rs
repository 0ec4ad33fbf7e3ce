//! For the fuzz targets only; no part of the API.

use crate::answer::{self, Commit};

/// Reads arbitrary octets as the answer to every command.
///
/// # Panics
/// If something is taken for done that the answer does not say, or what could be a line of a key is shown.
#[doc(hidden)]
pub fn answers(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let path = text.split_whitespace().nth(1).unwrap_or("site.pem");
    answer::info(&text);
    answer::listing(&text);
    answer::shown(&text, path);
    assert!(answer::set(&text).is_none_or(|path| text.contains(path)), "a path is in no answer");
    let is_done = answer::commit(&text, path) == Commit::Done;
    assert!(!is_done || (text.contains("Success!") && text.contains(path)), "what failed is taken for done");
    assert!(!answer::is_whole(octets, true) || answer::is_whole(octets, false), "a verdict has no end");
    answer::is_aborted(&text, path);
    assert!(
        !(answer::is_created(&text, path) && answer::is_deleted(&text, path)),
        "one answer says two things"
    );
    answer::is_listed(&text, path, path);
    answer::is_unlisted(&text, path, path);
    answer::entries(&text, path);
    answer::lists(&text);
    answer::workers(&text);
    let excerpt = answer::excerpt(&text, "");
    let base64 = |c: char| c.is_ascii_alphanumeric() || matches!(c, '+' | '/' | '=');
    // PEM has 64 characters on a line.
    let longest = excerpt.split(|c| !base64(c)).map(str::len).max();
    assert!(longest.is_none_or(|longest| longest < 64), "what could be a line of a key is shown");
    answer::excerpt(&text, path);
}

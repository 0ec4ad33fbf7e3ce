//! For the fuzz targets only; no part of the API.

use crate::answer;

/// Reads arbitrary octets as the answer to every command.
#[doc(hidden)]
pub fn answers(octets: &[u8]) {
    let text = String::from_utf8_lossy(octets);
    let path = text.split_whitespace().nth(1).unwrap_or("site.pem");
    answer::info(&text);
    answer::listing(&text);
    answer::shown(&text, path);
    answer::set(&text);
    answer::commit(&text, path);
    answer::is_whole(octets, true);
    answer::is_aborted(&text, path);
    answer::is_created(&text, path);
    answer::is_deleted(&text, path);
    answer::is_listed(&text, path, path);
    answer::is_unlisted(&text, path, path);
    answer::entries(&text, path);
    answer::lists(&text);
    answer::workers(&text);
    answer::excerpt(&text, path);
}

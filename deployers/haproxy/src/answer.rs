//! What HAProxy's answers mean: pure functions from text to facts. They never panic, whatever
//! comes in, and take for success only what is exactly one.

use std::collections::BTreeSet;

/// A HAProxy version, as far as behaviour depends on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version(pub(crate) u32, pub(crate) u32);

impl Version {
    /// The first that ends a payload at a word of the client's own choice (`<<%EOF%`).
    pub(crate) const OWN_TERMINATOR: Self = Self(2, 9);
    /// The first whose payload is limited by `tune.cli.max-payload-size`, not by `tune.bufsize`.
    pub(crate) const LARGE_PAYLOAD: Self = Self(3, 4);
}

/// What `show info` says: which version, and which process (it changes with each reload).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Info {
    pub(crate) version: Version,
    pub(crate) process: String,
}

/// Reads `show info`.
pub(crate) fn info(text: &str) -> Option<Info> {
    let field =
        |key: &str| text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':')).map(str::trim);
    let number = |text: &str| -> Option<u32> {
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        text.get(..end)?.parse().ok()
    };
    let (major, rest) = field("Version")?.split_once('.')?;
    let version = Version(number(major)?, number(rest)?);
    let process = format!("{}@{}", field("Pid")?, field("Start_time_sec").unwrap_or("?"));
    Some(Info { version, process })
}

/// What `show ssl cert` lists.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Listing {
    /// The certificate of the one transaction that may be open in a process.
    pub(crate) transaction: Option<String>,
    /// Every certificate store, in HAProxy's spelling.
    pub(crate) stores: BTreeSet<String>,
}

/// Reads `show ssl cert`.
pub(crate) fn listing(text: &str) -> Option<Listing> {
    let mut found = Listing::default();
    let mut section = "";
    for line in text.lines().filter(|line| !line.is_empty()) {
        match (line, section) {
            ("# transaction" | "# filename", _) => section = line,
            (_, "# transaction") => found.transaction = Some(line.strip_prefix('*')?.to_owned()),
            (_, "# filename") => drop(found.stores.insert(line.to_owned())),
            _ => return None,
        }
    }
    // An answer cut off after the transaction lacks the list: it is not one to rely on.
    (section == "# filename").then_some(found)
}

/// What `show ssl cert PATH` says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Shown {
    pub(crate) status: String,
    /// Upper-case hexadecimal without leading zeros; empty for an empty store.
    pub(crate) serial: String,
    /// The leaf's SHA-1 fingerprint as upper-case hexadecimal, where it is shown.
    pub(crate) sha1: Option<String>,
    /// The DNS names and addresses of the leaf.
    pub(crate) names: BTreeSet<String>,
    /// How many certificates follow the leaf.
    pub(crate) chain: usize,
}

/// Reads `show ssl cert PATH`; `None` if there is no such certificate or it cannot be read.
pub(crate) fn shown(text: &str, path: &str) -> Option<Shown> {
    let mut found = Shown::default();
    if text.lines().next()?.strip_prefix("Filename: ")? != path {
        return None;
    }
    for line in text.lines() {
        let Some((key, value)) = line.split_once(": ") else { continue };
        match key {
            "Status" => value.clone_into(&mut found.status),
            "Serial" => found.serial = canonical_serial(value),
            "SHA1 FingerPrint" => found.sha1 = Some(value.trim().to_ascii_uppercase()),
            "Chain Subject" => found.chain += 1,
            "Subject Alternative Name" => {
                let name = |san: &str| san.trim().split_once(':').map(|(_, name)| name.to_ascii_lowercase());
                found.names = value.split(',').filter_map(name).collect();
            }
            _ => {}
        }
    }
    (!found.status.is_empty()).then_some(found)
}

/// A serial number as both sides can be compared: HAProxy leaves DER's leading zero away.
pub(crate) fn canonical_serial(serial: &str) -> String {
    serial.trim().trim_start_matches('0').to_ascii_uppercase()
}

/// The path that `set ssl cert` says it has changed. It is *not* always the one that was sent: with
/// another transaction open, versions before 3.1 change that one.
pub(crate) fn set(text: &str) -> Option<&str> {
    let line = text.lines().next()?;
    let rest = line
        .strip_prefix("Transaction created for certificate ")
        .or_else(|| line.strip_prefix("Transaction updated for certificate "))?;
    rest.strip_suffix('!').filter(|path| !path.is_empty())
}

/// How `commit ssl cert` ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commit {
    /// The new certificate is in use.
    Done,
    /// HAProxy said no; the old certificate is in use.
    Refused,
    /// The answer is not whole: whether HAProxy still works on it cannot be known.
    Unanswered,
}

/// Reads the answer to `commit ssl cert PATH`.
pub(crate) fn commit(text: &str, path: &str) -> Commit {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let (Some(first), whole) = (lines.next(), text.ends_with('\n')) else { return Commit::Unanswered };
    let last = lines.next_back().unwrap_or(first);
    let started = first
        .strip_prefix("Committing ")
        .and_then(|rest| rest.strip_prefix(path))
        .is_some_and(|dots| dots.bytes().all(|b| b == b'.'));
    match last {
        "Success!" if started && whole => Commit::Done,
        "Failed!" if whole => Commit::Refused,
        _ if whole && is_refusal(text) => Commit::Refused,
        _ => Commit::Unanswered,
    }
}

/// Refusals come before the work starts. Anything unknown may be work in progress, and that must
/// not be disturbed.
fn is_refusal(text: &str) -> bool {
    let known = ["Can't commit ", "Permission denied", "Can't find the target PID", "Unknown command"];
    !text.starts_with("Committing") && known.iter().any(|words| text.contains(words))
}

/// Whether a master CLI, which keeps the connection open, has said all it will say.
pub(crate) fn is_whole(text: &[u8], is_commit: bool) -> bool {
    let ended = text.ends_with(b"\n\n");
    if !is_commit {
        return ended;
    }
    let verdict = text.ends_with(b"\nSuccess!\n\n") || text.ends_with(b"\nFailed!\n\n");
    verdict || (ended && is_refusal(&String::from_utf8_lossy(text)))
}

/// Whether no transaction is open on PATH after `abort ssl cert PATH`.
pub(crate) fn is_aborted(text: &str, path: &str) -> bool {
    let line = text.lines().next().unwrap_or_default();
    line == "No ongoing transaction!"
        || quoted(line, "Transaction aborted for certificate '", "'!") == Some(path)
}

/// Whether `new ssl cert PATH` made an empty store.
pub(crate) fn is_created(text: &str, path: &str) -> bool {
    quoted(text.lines().next().unwrap_or_default(), "New empty certificate store '", "'!") == Some(path)
}

/// Whether `del ssl cert PATH` deleted it, or it was not there.
pub(crate) fn is_deleted(text: &str, path: &str) -> bool {
    let line = text.lines().next().unwrap_or_default();
    quoted(line, "Certificate '", "' deleted!") == Some(path)
        || line.ends_with(&format!("certificate '{path}' doesn't exist!"))
}

/// Whether `add ssl crt-list LIST PATH` took the entry up.
pub(crate) fn is_listed(text: &str, list: &str, path: &str) -> bool {
    let mut lines = text.lines().filter(|line| !line.trim().is_empty());
    let first = lines.next().unwrap_or_default();
    let dots = first.strip_prefix(&format!("Inserting certificate '{path}' in crt-list '{list}'"));
    dots.is_some_and(|dots| dots.bytes().all(|b| b == b'.')) && lines.next_back() == Some("Success!")
}

/// Whether `del ssl crt-list LIST PATH` took the entry away.
pub(crate) fn is_unlisted(text: &str, list: &str, path: &str) -> bool {
    let line = text.lines().next().unwrap_or_default();
    line == format!("Entry '{path}' deleted in crtlist '{list}'!")
}

/// The lines of a crt-list that name PATH, from `show ssl crt-list -n LIST`; `None` if that list
/// does not exist.
pub(crate) fn entries(text: &str, path: &str) -> Option<Vec<Entry>> {
    let mut lines = text.lines();
    lines.next()?.strip_prefix("# ")?;
    let entry = |line: &str| {
        let line = line.replace('\0', "");
        let rest = line.strip_prefix(path)?.strip_prefix(':')?;
        let (number, options) = rest.split_once(' ').unwrap_or((rest, ""));
        Some(Entry { line: number.parse().ok()?, options: options.trim().to_owned() })
    };
    Some(lines.filter_map(entry).collect())
}

/// One line of a crt-list as HAProxy holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) line: u32,
    pub(crate) options: String,
}

/// The names of all crt-lists, from `show ssl crt-list`.
pub(crate) fn lists(text: &str) -> Vec<String> {
    text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

/// The process ids of the workers, from the master's `show proc`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Workers {
    pub(crate) current: Vec<u32>,
    /// Draining: they end once their last connection does.
    pub(crate) old: Vec<u32>,
}

/// Reads `show proc`; `None` if there is no worker section.
pub(crate) fn workers(text: &str) -> Option<Workers> {
    let mut found = Workers::default();
    let mut section = "";
    let mut seen = false;
    for line in text.lines() {
        if line.starts_with('#') {
            section = line.trim_end();
            seen |= section == "# workers";
            continue;
        }
        let mut columns = line.split_whitespace();
        let (Some(pid), Some("worker")) = (columns.next(), columns.next()) else { continue };
        let Ok(pid) = pid.parse() else { continue };
        match section {
            "# workers" => found.current.push(pid),
            "# old workers" => found.old.push(pid),
            _ => {}
        }
    }
    seen.then_some(found)
}

/// The first lines of an answer, fit for an error: whatever could be a piece of a key is left out
/// (2.8 answers the lines of a key that it took for commands). `known` is a path that may stay.
pub(crate) fn excerpt(text: &str, known: &str) -> String {
    let word = |word: &str| {
        let bare = word.trim_matches(['\'', '"', '`', '!', '.', ',', ':', '(', ')']);
        let base64 = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'+' | b'/' | b'=');
        // A whole word, or a line of PEM with whatever signs around it.
        let line = word.as_bytes().split(|b| !base64(*b)).any(|run| run.len() >= 64);
        let secret = bare != known && (line || (bare.len() >= 16 && bare.bytes().all(base64)));
        if secret { "(…)" } else { word }.to_owned()
    };
    let line = |line: &str| line.split_whitespace().map(word).collect::<Vec<_>>().join(" ");
    let kept: Vec<_> = text.lines().filter(|line| !line.trim().is_empty()).take(3).map(line).collect();
    if kept.is_empty() { "nothing".to_owned() } else { kept.join(" | ") }
}

fn quoted<'a>(line: &'a str, before: &str, after: &str) -> Option<&'a str> {
    line.strip_prefix(before)?.strip_suffix(after)
}

#[cfg(test)]
mod tests;

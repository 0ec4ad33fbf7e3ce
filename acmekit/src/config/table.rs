//! Certificates out of a CSV file: for fleets that somebody else's program lists.

use std::path::Path;

use acmekit_core::{Identifier, KeyType};
use serde::Deserialize;
use serde::de::value::{Error as ValueError, StrDeserializer};

use super::document::key_type_or;
use super::problem::{Place, Problem};
use super::sections::CertificateConfig;

/// The columns in their order. A line may end early.
const COLUMNS: [&str; 4] = ["names", "id", "key_type", "group"];

/// The certificates with their lines, and what is wrong.
pub(super) fn read(text: &str, path: &Path) -> (Vec<(usize, CertificateConfig)>, Vec<Problem>) {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .comment(Some(b'#'))
        .trim(csv::Trim::All)
        .from_reader(text.as_bytes());
    let mut rows = Vec::new();
    let mut problems = Vec::new();
    let mut first = true;
    let mut has_header = false;
    for record in reader.records() {
        let refuse = |key: &str, line: u64, why: String| {
            let mut problem = Problem::new(key, why);
            problem.file = Some(path.to_owned());
            problem.place = Some(Place { line: usize::try_from(line).unwrap_or(usize::MAX), column: 1 });
            problem
        };
        let record = match record {
            Ok(record) => record,
            Err(error) => {
                let line = error.position().map_or(1, csv::Position::line);
                problems.push(refuse("", line, format!("this is not CSV: {error}")));
                continue;
            }
        };
        let line = record.position().map_or(1, |position| line_of(text, position));
        let field = |at: usize| record.get(at).filter(|text| !text.is_empty());
        let is_header =
            std::mem::take(&mut first) && field(0).is_some_and(|text| text.eq_ignore_ascii_case(COLUMNS[0]));
        has_header |= is_header;
        if is_header || record.iter().all(str::is_empty) {
            continue;
        }
        if record.iter().skip(COLUMNS.len()).any(|text| !text.is_empty()) {
            let why = format!("there are {} columns", record.len());
            let hint =
                format!("there are only: {}; names are separated by spaces, not commas", COLUMNS.join(", "));
            problems.push(refuse("", line, why).hint(hint));
            continue;
        }
        let Some(names) = field(0) else {
            problems.push(refuse("names", line, "there is no name in the first column".to_owned()));
            continue;
        };
        // Without a header it would become the id, and its certificate be missed only by who needs it.
        let is_listed = |id: &&str| names.split_whitespace().any(|name| name == *id);
        if let Some(id) = field(1).filter(|id| !has_header && id.contains('.') && !is_listed(id))
            && id.parse::<Identifier>().is_ok()
        {
            let problem =
                refuse("id", line, "this looks like a name, but it stands where the id does".to_owned());
            let hint =
                "separate names by spaces; if it is the id, add the header line `names,id,key_type,group`";
            problems.push(problem.value(id).hint(hint));
            continue;
        }
        let key_type = match field(2).map(|text| (text, key_type(text))) {
            Some((text, None)) => {
                let all = ["ecdsa-p256", "ecdsa-p384", "rsa-2048", "rsa-3072", "rsa-4096"];
                let known: Vec<String> =
                    all.into_iter().filter(|name| key_type(name).is_some()).map(str::to_owned).collect();
                let problem = refuse("key_type", line, "this is no key type of this program".to_owned());
                problems.push(problem.value(text).hint(key_type_or(text, &known)));
                continue;
            }
            Some((_, kind)) => kind,
            None => None,
        };
        let certificate = CertificateConfig {
            names: names.split_whitespace().map(str::to_owned).collect(),
            id: field(1).map(str::to_owned),
            key_type,
            group: field(3).map(str::to_owned),
            ..CertificateConfig::default()
        };
        rows.push((usize::try_from(line).unwrap_or(usize::MAX), certificate));
    }
    (rows, problems)
}

/// The line a record stands on: its position is that of the comments and empty lines before it.
fn line_of(text: &str, position: &csv::Position) -> u64 {
    let mut line = position.line();
    let start = usize::try_from(position.byte()).unwrap_or(usize::MAX);
    let mut rest = text.as_bytes().get(start..).unwrap_or_default();
    while let Some((byte, after)) = rest.split_first() {
        rest = match byte {
            b'#' => {
                let end = rest.iter().position(|byte| *byte == b'\n').unwrap_or(rest.len());
                rest.get(end..).unwrap_or_default()
            }
            b'\n' => {
                line += 1;
                after
            }
            b'\r' => after,
            _ => break,
        };
    }
    line
}

fn key_type(text: &str) -> Option<KeyType> {
    KeyType::deserialize(StrDeserializer::<ValueError>::new(text)).ok()
}

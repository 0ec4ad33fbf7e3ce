//! The form of one file: a line that says what follows, then the value.

use std::fmt::Write;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::Secret;

const MAGIC: &str = "acmekit-entry ";
const FORMAT: u32 = 1;
/// Longer than any header: where no line ends within it, there is none.
const MAX_HEADER: usize = 160;

/// The whole content of the file for this value at this version.
pub(crate) fn encode(version: u64, value: &[u8]) -> Zeroizing<Vec<u8>> {
    let header = header(version, value);
    let mut out = Zeroizing::new(Vec::with_capacity(header.len() + value.len()));
    out.extend_from_slice(header.as_bytes());
    out.extend_from_slice(value);
    out
}

/// The value in a file's content, or what is wrong with the file, in words for a person.
///
/// The header is made anew from what was read and compared as a whole, so that no byte of it can
/// change unnoticed.
pub(crate) fn decode(version: u64, content: &[u8]) -> Result<Secret<Vec<u8>>, String> {
    if content.is_empty() {
        return Err("it is empty".to_owned());
    }
    let end = content.iter().take(MAX_HEADER).position(|&byte| byte == b'\n');
    let Some((found, value)) = end.and_then(|end| content.split_at_checked(end + 1)) else {
        return Err("its header is missing or cut".to_owned());
    };
    if found == header(version, value).as_bytes() {
        return Ok(Secret::new(value.to_vec()));
    }
    Err(what_differs(version, found, value.len()))
}

fn header(version: u64, value: &[u8]) -> String {
    let line = format!("{MAGIC}{FORMAT} {version} {}", value.len());
    let digest = Sha256::new().chain_update(&line).chain_update(b"\n").chain_update(value).finalize();
    let mut out = line;
    out.push(' ');
    for byte in digest {
        // Writing to a String cannot fail.
        let _ = write!(out, "{byte:02x}");
    }
    out.push('\n');
    out
}

fn what_differs(version: u64, found: &[u8], length: usize) -> String {
    let fields: Option<Vec<&str>> = std::str::from_utf8(found)
        .ok()
        .and_then(|line| line.strip_prefix(MAGIC))
        .map(|rest| rest.trim_end().split(' ').collect());
    match fields.as_deref() {
        Some([format, ..]) if format.parse::<u32>().is_ok_and(|format| format > FORMAT) => {
            format!("its format {format} is unknown here: a newer acmekit wrote it, or it is damaged")
        }
        Some([_, found, _, _]) if *found != version.to_string() => {
            format!("its header is of version {found}, its name of version {version}")
        }
        Some([_, _, wanted, _]) if *wanted != length.to_string() => {
            format!("it should hold {wanted} bytes and holds {length}")
        }
        Some([_, _, _, _]) => "its checksum does not match".to_owned(),
        _ => "its header is unreadable".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_noticed() {
        let good = encode(17, b"the value\n of it");
        assert_eq!(decode(17, &good).unwrap().expose(), b"the value\n of it");
        for at in 0..good.len() * 8 {
            let mut bad = good.clone();
            bad[at / 8] ^= 1 << (at % 8);
            assert!(decode(17, &bad).is_err(), "bit {at} flipped unnoticed");
        }
    }

    #[test]
    fn every_cut_is_noticed() {
        let good = encode(17, b"the value");
        for length in 0..good.len() {
            assert!(decode(17, &good[..length]).is_err(), "cut to {length} unnoticed");
        }
        assert!(decode(17, &[good.as_slice(), b"x"].concat()).is_err(), "a byte more unnoticed");
    }

    #[test]
    fn what_is_wrong_is_said_in_words() {
        let good = encode(17, b"the value");
        let told = |version, content: &[u8]| decode(version, content).unwrap_err();
        assert_eq!(told(17, b""), "it is empty");
        assert_eq!(told(17, &good[..20]), "its header is missing or cut");
        assert_eq!(told(17, &good[..good.len() - 2]), "it should hold 9 bytes and holds 7");
        assert_eq!(told(18, &good), "its header is of version 17, its name of version 18");
        let mut flipped = good.to_vec();
        *flipped.last_mut().unwrap() ^= 1;
        assert_eq!(told(17, &flipped), "its checksum does not match");
        assert!(told(17, b"acmekit-entry 2 17 9 x\n").contains("newer acmekit"));
        assert_eq!(told(17, b"\xff\xff\n"), "its header is unreadable");
    }

    #[test]
    fn an_empty_value_is_a_value() {
        assert!(decode(1, &encode(1, b"")).unwrap().expose().is_empty());
    }
}

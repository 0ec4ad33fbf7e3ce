//! TXT values as Route 53 writes them: strings in quotes ([TXT record type]).
//!
//! [TXT record type]: https://docs.aws.amazon.com/Route53/latest/DeveloperGuide/ResourceRecordTypes.html#TXTFormat

/// The longest string (RFC 1035 section 3.3.14).
const MAX_STRING: usize = 255;

/// Quotes a value; one that is longer than a string can be is several.
pub(crate) fn quoted(value: &[u8]) -> String {
    let mut out = String::with_capacity(value.len() + 2);
    let mut strings = value.chunks(MAX_STRING);
    // An empty value is one empty string.
    let mut next = Some(strings.next().unwrap_or_default());
    while let Some(string) = next {
        out.push('"');
        for &octet in string {
            match octet {
                b'"' | b'\\' => out.extend(['\\', char::from(octet)]),
                b' '..=b'~' => out.push(char::from(octet)),
                _ => out.push_str(&format!("\\{octet:03o}")),
            }
        }
        out.push('"');
        next = strings.next();
        if next.is_some() {
            out.push(' ');
        }
    }
    out
}

/// The octets of a value as Route 53 tells it. What is not quoted, as some servers that are not AWS
/// allow, ends at a blank.
pub(crate) fn unquoted(text: &str) -> Vec<u8> {
    let mut value = Vec::with_capacity(text.len());
    let mut octets = text.bytes().peekable();
    let mut inside = false;
    while let Some(octet) = octets.next() {
        match octet {
            b'"' => inside = !inside,
            b' ' | b'\t' if !inside => {}
            b'\\' => value.push(escaped(&mut octets)),
            other => value.push(other),
        }
    }
    value
}

/// A name as Route 53 tells it, in lower case and without its dot: `\052.example.com.`
pub(crate) fn name(text: &str) -> String {
    let mut octets = text.bytes().peekable();
    let mut name = Vec::with_capacity(text.len());
    while let Some(octet) = octets.next() {
        name.push(if octet == b'\\' { escaped(&mut octets) } else { octet });
    }
    let name = String::from_utf8_lossy(&name).to_ascii_lowercase();
    name.strip_suffix('.').map(str::to_owned).unwrap_or(name)
}

/// What stands behind a backslash: three octal digits, or the octet itself.
fn escaped(octets: &mut std::iter::Peekable<std::str::Bytes<'_>>) -> u8 {
    let mut number = 0u32;
    let mut digits = 0;
    while digits < 3 {
        let Some(digit) = octets.next_if(|octet| (b'0'..=b'7').contains(octet)) else { break };
        number = number * 8 + u32::from(digit - b'0');
        digits += 1;
    }
    match digits {
        0 => octets.next().unwrap_or(b'\\'),
        _ => u8::try_from(number).unwrap_or(b'?'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_quoted_as_the_documentation_of_the_type_shows() {
        for (value, text) in [
            (
                &b"LHDhK3oGRvkiefQnx7OOczTY5Tic_xZ6HcMOc_gmtoM"[..],
                r#""LHDhK3oGRvkiefQnx7OOczTY5Tic_xZ6HcMOc_gmtoM""#,
            ),
            (b"", r#""""#),
            (b"string with \"quotation marks\" in it", r#""string with \"quotation marks\" in it""#),
            (b"a\\b", r#""a\\b""#),
            ("ex\u{e4}mple".as_bytes(), r#""ex\303\244mple""#),
            (b"line\nbreak\x7f", r#""line\012break\177""#),
            (b"blank kept ", r#""blank kept ""#),
        ] {
            assert_eq!(quoted(value), text);
            assert_eq!(unquoted(text), value, "{text}");
        }
    }

    #[test]
    fn long_values_are_several_strings() {
        let value = vec![b'a'; 256];
        let text = quoted(&value);
        assert_eq!(text, format!("\"{}\" \"a\"", "a".repeat(255)));
        assert_eq!(unquoted(&text), value);
        assert_eq!(quoted(&value[..255]), format!("\"{}\"", "a".repeat(255)));
    }

    #[test]
    fn every_octet_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(unquoted(&quoted(&all)), all);
    }

    #[test]
    fn what_others_wrote_is_read_too() {
        for (text, value) in
            [("plain", "plain"), (r#""a" "b""#, "ab"), (r#""a""b""#, "ab"), ("\"broken\\", "broken\\")]
        {
            assert_eq!(unquoted(text), value.as_bytes(), "{text}");
        }
    }

    #[test]
    fn names_are_compared_without_their_escapes() {
        assert_eq!(name("\\052.Example.com."), "*.example.com");
        assert_eq!(name("_acme-challenge.example.com"), "_acme-challenge.example.com");
        assert_eq!(name("\\137acme-challenge.example.com."), "_acme-challenge.example.com");
    }
}

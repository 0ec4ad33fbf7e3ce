//! TXT content in presentation format (RFC 1035 section 5.1), which is how deSEC takes and gives it:
//! <https://desec.readthedocs.io/en/latest/dns/rrsets.html#caveats>.

/// The value as one quoted character-string.
pub(crate) fn quoted(value: &str) -> String {
    let mut content = String::from("\"");
    for octet in value.bytes() {
        match octet {
            b'"' | b'\\' => content.extend(['\\', char::from(octet)]),
            b' '..=b'~' => content.push(char::from(octet)),
            _ => content.push_str(&format!("\\{octet:03}")),
        }
    }
    content.push('"');
    content
}

/// Whether the content is this value, in however many character-strings and however escaped.
pub(crate) fn is(content: &str, value: &str) -> bool {
    octets(content) == value.as_bytes()
}

/// The octets of all its character-strings, one after the other.
fn octets(content: &str) -> Vec<u8> {
    let (mut octets, mut inside) = (Vec::new(), false);
    let mut rest = content.as_bytes();
    while let Some((&next, after)) = rest.split_first() {
        rest = after;
        match next {
            b'"' => inside = !inside,
            b'\\' => {
                let (octet, after) = escaped(rest);
                octets.extend(octet);
                rest = after;
            }
            b' ' | b'\t' if !inside => {}
            other => octets.push(other),
        }
    }
    octets
}

/// What comes after a backslash: three digits, or the octet itself.
fn escaped(rest: &[u8]) -> (Option<u8>, &[u8]) {
    if let Some((digits, after)) = rest.split_at_checked(3)
        && digits.iter().all(u8::is_ascii_digit)
    {
        let number = digits.iter().fold(0_u16, |sum, digit| sum * 10 + u16::from(digit - b'0'));
        return (u8::try_from(number).ok(), after);
    }
    match rest.split_first() {
        Some((&octet, after)) => (Some(octet), after),
        None => (None, rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_the_same_in_each_of_its_forms() {
        for (content, value) in [
            ("\"abc\"", "abc"),
            ("abc", "abc"),
            ("\"ab\" \"c\"", "abc"),
            (r#""" "abc""#, "abc"),
            (r#""a\"b\\c""#, r#"a"b\c"#),
            (r#""\097bc""#, "abc"),
            (r#""\195\164""#, "ä"),
            ("\"a b\"", "a b"),
            ("", ""),
        ] {
            assert!(is(content, value), "{content}");
            assert!(is(&quoted(value), value), "{value}");
        }
        for (content, value) in [("\"abc\"", "ab"), ("\"ab\"", "abc"), ("\"a b\"", "ab"), ("\"\\", "\\")] {
            assert!(!is(content, value), "{content}");
        }
    }

    #[test]
    fn what_cannot_be_printed_is_written_as_digits() {
        assert_eq!(quoted("aZ-_\"\\ä\n"), r#""aZ-_\"\\\195\164\010""#);
    }

    #[test]
    fn content_that_is_none_is_no_value_and_does_no_harm() {
        for content in ["\"", "\\", "\"\\", "\\1", "\\12", "\\999", "\"\\256\""] {
            assert!(!is(content, "value"), "{content}");
        }
    }
}

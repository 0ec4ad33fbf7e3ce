//! Names of users and groups to numbers, by the machine's own two files.

use acmekit_core::Result;

use crate::config::refuse;

pub(crate) fn user(name: &str) -> Result<u32> {
    number(name, "user", "/etc/passwd")
}

pub(crate) fn group(name: &str) -> Result<u32> {
    number(name, "group", "/etc/group")
}

fn number(name: &str, what: &'static str, table: &'static str) -> Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let text = std::fs::read(table).map_err(|e| {
        refuse(format!("could not read {table} to find the {what} `{}`", name.escape_debug()))
            .with("reason", &e)
            .with_source(e)
    })?;
    find(&String::from_utf8_lossy(&text), name).ok_or_else(|| {
        refuse(format!("there is no {what} `{}` on this machine", name.escape_debug()))
            .with("looked_in", table)
            .with_hint(format!("create it, or give its number (only {table} is read, no directory service)"))
    })
}

/// The third field of the line that starts with the name (passwd(5), group(5)).
fn find(table: &str, name: &str) -> Option<u32> {
    table.lines().find_map(|line| {
        let mut fields = line.split(':');
        (!name.is_empty() && fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_whole_and_never_in_part() {
        let table = "# x\nroot:x:0:0:root:/root:/bin/sh\nwww-data:x:33:33::/:/bin/false\nbroken\n+::::\n";
        assert_eq!(find(table, "www-data"), Some(33));
        assert_eq!(find(table, "root"), Some(0));
        for absent in ["www", "", "broken", "x", "+"] {
            assert_eq!(find(table, absent), None, "{absent}");
        }
    }

    #[test]
    fn an_unknown_name_is_a_config_error_that_names_it() {
        let error = user("acmekit-nobody-has-this-name").unwrap_err();
        assert_eq!(error.kind(), acmekit_core::ErrorKind::Config);
        assert!(error.to_string().contains("acmekit-nobody-has-this-name"), "{error}");
        assert_eq!(user("0").unwrap(), 0);
        assert_eq!(group("12345").unwrap(), 12345);
    }
}

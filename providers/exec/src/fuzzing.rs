//! For the fuzz targets only; no part of the API.

use acmekit_core::fuzzing;

use crate::dialect::{OUTPUT, auth_output};
use crate::{Config, Dialect};

const SECRETS: [&str; 2] = ["correct-horse-battery", "first-line-of-it\nsecond-line-of-it"];

/// Reads arbitrary octets as the output of a program: up to the first octet 1 on its standard output, the rest on
/// its standard error.
///
/// # Panics
/// If a secret or a private key is in what is shown or kept of it, or that is too long.
#[doc(hidden)]
pub fn output(octets: &[u8]) {
    let mut config = Config::new(Dialect::certbot(["auth"], ["cleanup"]));
    for (name, secret) in ["A", "B"].into_iter().zip(SECRETS) {
        config = config.env(name, secret);
    }
    let mut streams = octets.splitn(2, |octet| *octet == 1);
    let (out, err) = (streams.next().unwrap_or_default(), streams.next().unwrap_or_default());
    // What was kept whole, and what was cut.
    for keep in [OUTPUT, out.len() / 2] {
        let ended = fuzzing::program_output(out, err, keep, &SECRETS);
        assert!(
            ended.stdout.len() <= keep && ended.cut == (out.len() > keep),
            "not as much is kept as there is"
        );
        assert!(!ended.output.contains("PRIVATE KEY-----"), "the output shows a private key");
        assert!(ended.output.chars().count() <= 1500, "too much is shown");
        check(&ended.output);
        match auth_output(&ended, &config) {
            // It becomes a variable of the cleanup hook.
            Ok(said) => {
                assert!(!said.contains('\0') && said.len() < 128 * 1024, "no variable can hold it");
                check(&said);
            }
            Err(error) => {
                assert!(ended.cut, "what is whole is refused: {error}");
                check(&error.report());
            }
        }
    }
}

fn check(shown: &str) {
    for line in SECRETS.into_iter().flat_map(str::lines) {
        assert!(!shown.contains(line), "a secret is shown");
    }
}

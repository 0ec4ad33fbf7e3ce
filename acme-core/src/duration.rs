//! Durations as people write them: `"30s"`, `"5 min"`, `"1h 30m"`, or a bare number of seconds.
//!
//! Every configuration of the family reads its times with [`deserialize`].

use std::time::Duration;

use jiff::SignedDuration;
use serde::{Deserialize, Deserializer};

use crate::{Error, ErrorKind, Result};

/// What nobody means to wait for. It also keeps deadlines inside what a clock can count.
const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// Reads a duration with its unit: `ms`, `s`, `min`, `h`, alone or together.
///
/// ```
/// use std::time::Duration;
/// assert_eq!(acmekit_core::duration::parse("1h 30m")?, Duration::from_secs(5400));
/// # Ok::<(), acmekit_core::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::Config`] if there is no unit, if it is negative, or longer than a year.
pub fn parse(text: &str) -> Result<Duration> {
    let read = text.trim().parse::<SignedDuration>().ok().and_then(|time| Duration::try_from(time).ok());
    read.filter(|time| *time <= LONGEST).ok_or_else(|| refuse(format!("`{}`", text.escape_debug())))
}

fn refuse(shown: String) -> Error {
    Error::new(ErrorKind::Config, "duration.parse", format!("{shown} is no time to wait for"))
        .with_hint("write a number and a unit, such as \"30s\", \"5 min\" or \"1h 30m\"; a year at most")
}

/// For `#[serde(deserialize_with = "…")]`: text as in [`parse`], or a whole number of seconds.
///
/// # Errors
/// As [`parse`].
pub fn deserialize<'de, D: Deserializer<'de>>(input: D) -> Result<Duration, D::Error> {
    struct Time;

    impl serde::de::Visitor<'_> for Time {
        type Value = Duration;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a time such as \"30s\", or a whole number of seconds")
        }

        fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Duration, E> {
            parse(text).map_err(|error| E::custom(error.message()))
        }

        fn visit_u64<E: serde::de::Error>(self, seconds: u64) -> Result<Duration, E> {
            let time = Duration::from_secs(seconds);
            if time <= LONGEST { Ok(time) } else { Err(E::custom(refuse(format!("{seconds} s")).message())) }
        }

        fn visit_i64<E: serde::de::Error>(self, seconds: i64) -> Result<Duration, E> {
            match u64::try_from(seconds) {
                Ok(seconds) => self.visit_u64(seconds),
                Err(_) => Err(E::custom(refuse(format!("{seconds} s")).message())),
            }
        }
    }

    input.deserialize_any(Time)
}

/// As [`deserialize`], for what may be left out (together with `#[serde(default)]`).
///
/// # Errors
/// As [`parse`].
pub fn deserialize_some<'de, D: Deserializer<'de>>(input: D) -> Result<Option<Duration>, D::Error> {
    #[derive(Deserialize)]
    struct Whole(#[serde(deserialize_with = "deserialize")] Duration);

    Ok(Some(Whole::deserialize(input)?.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        for (text, seconds) in [("30s", 30), ("5 min", 300), ("5m", 300), ("1h 30m", 5400), ("0s", 0)] {
            assert_eq!(parse(text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        assert_eq!(parse("250ms").unwrap(), Duration::from_millis(250));
        for bad in ["", "30", "soon", "-3s", "9000000h", "s", "99999999999999999999s"] {
            assert_eq!(parse(bad).unwrap_err().kind(), ErrorKind::Config, "{bad}");
        }
    }

    #[test]
    fn bare_numbers_are_seconds_and_none_is_too_long_for_a_clock() {
        let read = |text: &str| deserialize(&mut serde_json::Deserializer::from_str(text));
        assert_eq!(read("30").unwrap(), Duration::from_secs(30));
        assert_eq!(read("\"30s\"").unwrap(), Duration::from_secs(30));
        for bad in ["-1", "18446744073709551615", "1.5", "true", "\"x\""] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }
}

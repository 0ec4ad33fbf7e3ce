//! When renewals may begin.

use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::Offset;
use jiff::{Timestamp, ToSpan};
use serde::{Deserialize, Serialize};

use crate::{Error, ErrorKind, Result};

const DAYS: [(&str, Weekday); 7] = [
    ("Mon", Weekday::Monday),
    ("Tue", Weekday::Tuesday),
    ("Wed", Weekday::Wednesday),
    ("Thu", Weekday::Thursday),
    ("Fri", Weekday::Friday),
    ("Sat", Weekday::Saturday),
    ("Sun", Weekday::Sunday),
];

/// A time of the week in which renewals may begin, as text: `Sat-Sun 02:00-05:00 UTC`, `daily 22:00-04:00 +02:00`,
/// `Mon,Wed,Fri 00:00-24:00 UTC`.
///
/// One that ends before it starts goes on into the next day. The offset stays the same the year over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MaintenanceWindow {
    /// One bit for each day, Monday first.
    days: u8,
    /// Minutes from midnight.
    from: u16,
    /// Minutes from the same midnight; up to two days.
    to: u16,
    /// Minutes east of UTC.
    offset: i16,
}

impl MaintenanceWindow {
    /// The times it is open on the day, if that is one of its days.
    fn on(self, day: Date) -> Option<(SystemTime, SystemTime)> {
        let bit = 1u8 << day.weekday().to_monday_zero_offset();
        if self.days & bit == 0 {
            return None;
        }
        let offset = Offset::from_seconds(i32::from(self.offset) * 60).ok()?;
        let midnight: SystemTime = offset.to_timestamp(day.to_datetime(Time::midnight())).ok()?.into();
        let after = |minutes: u16| midnight.checked_add(Duration::from_secs(u64::from(minutes) * 60));
        Some((after(self.from)?, after(self.to)?))
    }

    /// The times it is open that end after this instant, in the ten days from the day before it.
    fn openings(self, from: SystemTime) -> impl Iterator<Item = (SystemTime, SystemTime)> {
        let offset = Offset::from_seconds(i32::from(self.offset) * 60).ok();
        let today =
            Timestamp::try_from(from).ok().zip(offset).map(|(at, offset)| offset.to_datetime(at).date());
        (-1..9)
            .filter_map(move |days| today?.checked_add(days.days()).ok())
            .filter_map(move |day| self.on(day))
            .filter(move |(_, close)| *close > from)
    }
}

/// Whether renewals may begin at this instant; without windows, always.
pub(super) fn is_open(windows: &[MaintenanceWindow], at: SystemTime) -> bool {
    windows.is_empty()
        || windows.iter().any(|window| window.openings(at).any(|(open, close)| open <= at && at < close))
}

/// An instant from `from` on and before `until` at which renewals may begin: in the first three quarters of what is
/// left of the first window, as chance has it.
pub(super) fn next(
    windows: &[MaintenanceWindow],
    from: SystemTime,
    until: SystemTime,
    chance: f64,
) -> Option<SystemTime> {
    let openings = windows.iter().flat_map(|window| window.openings(from));
    let (open, close) = openings.map(|(open, close)| (open.max(from), close.min(until))).min()?;
    let width = close.duration_since(open).ok().filter(|width| !width.is_zero())?;
    let at = open + (width * 3 / 4).mul_f64(chance.clamp(0.0, 1.0));
    // Windows begin at full hours; renewals had better not.
    Some(at + Duration::from_secs(61).min(width / 8))
}

impl FromStr for MaintenanceWindow {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let refuse = |why: &str| {
            let shown = format!("`{}` is no maintenance window: {why}", text.escape_debug());
            Error::new(ErrorKind::Config, "renewal.maintenance", shown)
                .with_hint("write it as `Sat-Sun 02:00-05:00 UTC`, `Mon,Wed 22:00-04:00 +02:00` or `daily 01:00-03:00 UTC`")
        };
        let parts: Vec<&str> = text.split_whitespace().collect();
        let &[days, times, zone] = parts.as_slice() else {
            return Err(refuse("it has not three parts: days, times, UTC or an offset"));
        };
        let days = read_days(days).ok_or_else(|| refuse("the days are Mon to Sun, or `daily`"))?;
        let (from, to) =
            times.split_once('-').ok_or_else(|| refuse("the times are two, with a `-` between"))?;
        let clock = |text| read_clock(text).ok_or_else(|| refuse("a time is 00:00 to 24:00"));
        let (from, mut to) = (clock(from)?, clock(to)?);
        if to < from {
            to += 24 * 60;
        }
        // Also 24:00-00:00.
        if from == to {
            return Err(refuse("it ends when it starts; for a whole day write 00:00-24:00"));
        }
        let offset = match zone {
            "UTC" | "Z" => 0,
            other => read_offset(other)
                .ok_or_else(|| refuse("after the times comes UTC or an offset such as +02:00"))?,
        };
        Ok(Self { days, from, to, offset })
    }
}

fn read_days(text: &str) -> Option<u8> {
    if text.eq_ignore_ascii_case("daily") {
        return Some(0x7f);
    }
    let day = |name: &str| DAYS.iter().position(|(known, _)| known.eq_ignore_ascii_case(name));
    let mut days = 0;
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (mut at, last) = (day(first)?, day(last)?);
        loop {
            days |= 1 << at;
            if at == last {
                break;
            }
            at = (at + 1) % 7;
        }
    }
    Some(days)
}

/// `hh:mm` in minutes.
fn read_clock(text: &str) -> Option<u16> {
    let (hours, minutes) = text.split_once(':')?;
    let two = |part: &str| (part.len() == 2).then(|| part.parse::<u16>().ok())?;
    let (hours, minutes) = (two(hours)?, two(minutes)?);
    let total = hours * 60 + minutes;
    (minutes < 60 && total <= 24 * 60).then_some(total)
}

fn read_offset(text: &str) -> Option<i16> {
    let (sign, rest) = match text.split_at_checked(1)? {
        ("+", rest) => (1, rest),
        ("-", rest) => (-1, rest),
        _ => return None,
    };
    let minutes = i16::try_from(read_clock(rest)?).ok()?;
    (minutes <= 14 * 60).then_some(sign * minutes)
}

impl fmt::Display for MaintenanceWindow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.days {
            0x7f => f.write_str("daily")?,
            days => {
                let names = DAYS.iter().enumerate().filter(|(day, _)| days & (1 << day) != 0);
                let names: Vec<&str> = names.map(|(_, (name, _))| *name).collect();
                f.write_str(&names.join(","))?;
            }
        }
        let clock = |minutes: u16| format!("{:02}:{:02}", minutes / 60, minutes % 60);
        let to = if self.to > 24 * 60 { self.to - 24 * 60 } else { self.to };
        write!(f, " {}-{} ", clock(self.from), clock(to))?;
        match self.offset {
            0 => f.write_str("UTC"),
            offset => write!(f, "{}{}", if offset < 0 { '-' } else { '+' }, clock(offset.unsigned_abs())),
        }
    }
}

impl TryFrom<String> for MaintenanceWindow {
    type Error = Error;
    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<MaintenanceWindow> for String {
    fn from(window: MaintenanceWindow) -> Self {
        window.to_string()
    }
}

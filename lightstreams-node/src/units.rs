//! Amounts, times, durations, percentages and byte ranges as people write them.

use std::{
    fmt,
    str::FromStr,
    time::{Duration, SystemTime},
};

use alloy_primitives::{Address, U256};

const DECIMALS: usize = 18;

/// Reads coins with up to 18 decimals (`1.5`) as wei.
pub fn parse_amount(text: &str) -> Result<U256, String> {
    let wrong = || format!("{text:?} is not an amount of coins such as 2 or 0.05");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + fraction.len() == 0 || whole.len() > 50 || !digits(whole) || !digits(fraction) {
        return Err(wrong());
    }
    if fraction.len() > DECIMALS {
        return Err(format!("{text:?} has more than {DECIMALS} decimals"));
    }
    U256::from_str_radix(&format!("{whole}{fraction:0<DECIMALS$}"), 10).map_err(|_| wrong())
}

/// Writes wei as coins, without trailing zeros.
pub fn coins(wei: U256) -> String {
    let digits = format!("{wei:0>width$}", width = DECIMALS + 1);
    let (whole, fraction) = digits.split_at(digits.len() - DECIMALS);
    match fraction.trim_end_matches('0') {
        "" => whole.to_owned(),
        fraction => format!("{whole}.{fraction}"),
    }
}

/// A time in Unix seconds as people read it: `2026-01-31T12:00:00Z` (RFC 3339); one after the year 9999 as its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Utc(pub u64);

/// 9999-12-31T23:59:59Z
const UTC_MAX: u64 = 253_402_300_799;

impl fmt::Display for Utc {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(self.0)) {
            Some(time) if self.0 <= UTC_MAX => write!(f, "{}", humantime::format_rfc3339_seconds(time)),
            _ => write!(f, "{}", self.0),
        }
    }
}

/// Reads `90s`, `90m`, `12h` or `30d` as seconds.
pub fn parse_duration(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a duration such as 90s, 90m, 12h or 30d");
    let at = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
    let (count, unit) = text.split_at(at);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => return Err(wrong()),
    };
    count
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(seconds))
        .filter(|&s| s > 0)
        .ok_or_else(wrong)
}

/// Reads a percentage with up to two decimals as basis points.
pub fn parse_percent(text: &str) -> Result<u16, String> {
    let wrong = || format!("{text:?} is not a percentage between 0 and 100 with at most two decimals");
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    if whole.is_empty() || whole.len() > 3 || fraction.len() > 2 {
        return Err(wrong());
    }
    let points: u16 = format!("{whole}{fraction:0<2}").parse().map_err(|_| wrong())?;
    if points > 10_000 { Err(wrong()) } else { Ok(points) }
}

/// One payee's part of each sale.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Who is paid.
    pub payee: Address,
    /// The part, in basis points.
    pub bps: u16,
}

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (payee, percent) = text.split_once('=').ok_or("expected ADDRESS=PERCENT")?;
        let payee = payee.parse().map_err(|error| format!("{payee}: {error}"))?;
        Ok(Self { payee, bps: parse_percent(percent)? })
    }
}

/// A range of plaintext bytes, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteRange {
    /// The first byte.
    pub first: u64,
    /// The last byte.
    pub last: u64,
}

/// Reads `FIRST-LAST`.
pub fn parse_range(text: &str) -> Result<ByteRange, String> {
    let wrong = || format!("{text:?} is not a range such as 0-65535, first and last byte included");
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    let first: u64 = first.parse().map_err(|_| wrong())?;
    let last: u64 = last.parse().map_err(|_| wrong())?;
    if first > last { Err(wrong()) } else { Ok(ByteRange { first, last }) }
}

/// Writes a number of bytes for people, in binary units.
pub fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut value = count as f64;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1024.0 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    if unit == UNITS[0] { format!("{count} {unit}") } else { format!("{value:.1} {unit}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc_and_absurd_ones_as_they_are() {
        assert_eq!(Utc(0).to_string(), "1970-01-01T00:00:00Z");
        assert_eq!(Utc(1_795_280_735).to_string(), "2026-11-21T17:05:35Z");
        assert_eq!(Utc(UTC_MAX).to_string(), "9999-12-31T23:59:59Z");
        assert_eq!(Utc(u64::MAX).to_string(), u64::MAX.to_string());
    }

    #[test]
    fn amounts_are_read_exactly_and_written_back() {
        for (text, wei) in [
            ("0", "0"),
            ("1", "1000000000000000000"),
            ("0.05", "50000000000000000"),
            (".5", "500000000000000000"),
        ] {
            assert_eq!(parse_amount(text).unwrap(), U256::from_str_radix(wei, 10).unwrap(), "{text}");
        }
        for text in ["0", "1", "0.05", "123.000000000000000001"] {
            assert_eq!(coins(parse_amount(text).unwrap()), text);
        }
        for text in ["", ".", "-1", "1e3", "0x10", "1.0000000000000000001", "1,5", &"9".repeat(60)] {
            assert!(parse_amount(text).is_err(), "{text}");
        }
    }

    #[test]
    fn durations_percentages_and_ranges_are_bounded() {
        assert_eq!(parse_duration("30d"), Ok(2_592_000));
        for text in ["", "30", "d", "0s", "1w", "99999999999999999999d", "18446744073709551615d"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        assert_eq!(parse_percent("2.5"), Ok(250));
        assert_eq!(parse_percent("100"), Ok(10_000));
        for text in ["", "100.01", "101", "-1", "1.234", "1.x"] {
            assert!(parse_percent(text).is_err(), "{text}");
        }
        assert_eq!(parse_range("5-9"), Ok(ByteRange { first: 5, last: 9 }));
        for text in ["", "5", "9-5", "-5", "5-", "a-b"] {
            assert!(parse_range(text).is_err(), "{text}");
        }
    }
}

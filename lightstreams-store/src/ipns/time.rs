//! Times as RFC 3339 writes them, and as time since 1970.

use std::time::Duration;

const DAY: u64 = 86_400;

/// Reads `YYYY-MM-DDThh:mm:ss[.f…](Z|±hh:mm)`; digits below a nanosecond are cut off. `None` for what has another form, or lies
/// before 1970.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let number = |from: usize, to: usize| {
        let digits = text.get(from..to)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>().ok())?
    };
    let is = |at: usize, byte: u8| text.as_bytes().get(at) == Some(&byte);
    if !(is(4, b'-') && is(7, b'-') && is(10, b'T') && is(13, b':') && is(16, b':')) {
        return None;
    }
    let (year, month, day) = (number(0, 4)?, number(5, 7)?, number(8, 10)?);
    let (hour, minute, second) = (number(11, 13)?, number(14, 16)?, number(17, 19)?);
    if day == 0 || day > days_of_month(year, month)? || hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut rest = text.get(19..)?;
    let mut nanos = 0;
    if let Some(fraction) = rest.strip_prefix('.') {
        let len = fraction.bytes().take_while(u8::is_ascii_digit).count();
        let digits = fraction.get(..len).filter(|digits| !digits.is_empty())?;
        nanos = format!("{digits:0<9}").get(..9)?.parse().ok()?;
        rest = fraction.get(len..)?;
    }
    let seconds = days_before(year)? + days_before_month(year, month)? + day - 1;
    let seconds = seconds * DAY + hour * 3600 + minute * 60 + second;
    let seconds = match rest.as_bytes() {
        b"Z" => seconds,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let part = |from: usize| {
                let digits = rest.get(from..from + 2)?;
                digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse::<u64>().ok())?
            };
            let (hours, minutes) = (part(1)?, part(4)?);
            if hours > 23 || minutes > 59 {
                return None;
            }
            let offset = hours * 3600 + minutes * 60;
            if *sign == b'+' { seconds.checked_sub(offset)? } else { seconds + offset }
        }
        _ => return None,
    };
    Some(Duration::new(seconds, nanos))
}

/// Writes a time in UTC with nanoseconds; `None` after the year 9999.
pub(crate) fn format(time: Duration) -> Option<String> {
    let (mut days, second) = (time.as_secs() / DAY, time.as_secs() % DAY);
    let mut year = 1970;
    while days >= days_of_year(year) {
        days -= days_of_year(year);
        year += 1;
        if year > 9999 {
            return None;
        }
    }
    let mut month = 1;
    while days >= days_of_month(year, month)? {
        days -= days_of_month(year, month)?;
        month += 1;
    }
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let (day, nanos) = (days + 1, time.subsec_nanos());
    Some(format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z"))
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
}

fn days_of_year(year: u64) -> u64 {
    365 + u64::from(is_leap(year))
}

fn days_of_month(year: u64, month: u64) -> Option<u64> {
    Some(match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    })
}

fn days_before_month(year: u64, month: u64) -> Option<u64> {
    (1..month).map(|month| days_of_month(year, month)).sum()
}

/// Days from 1970 to the start of `year`, which has four digits.
fn days_before(year: u64) -> Option<u64> {
    (year >= 1970).then(|| (1970..year).map(days_of_year).sum())
}

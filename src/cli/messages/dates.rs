//! Times as messages show them.

use jiff::Timestamp;

/// Seconds since 1970 as date and time, in this machine's time zone.
pub fn format_seconds(seconds: i64) -> String {
    match Timestamp::from_second(seconds) {
        Ok(time) => time.to_zoned(jiff::tz::TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
        Err(_) => "at no known time".to_owned(),
    }
}

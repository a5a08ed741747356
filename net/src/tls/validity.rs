//! From when to when a certificate is valid, read from its DER.
//!
//! TLS itself never looks at the dates of the certificate that it serves, and no library in the
//! tree tells them, so the few bytes on the way to them are read here (RFC 5280, 4.1):
//!
//! ```text
//! Certificate SEQUENCE { tbsCertificate SEQUENCE {
//!     [0] version OPTIONAL, serialNumber INTEGER, signature SEQUENCE, issuer SEQUENCE,
//!     validity SEQUENCE { notBefore, notAfter: UTCTime or GeneralizedTime } …
//! ```

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const DAY_S: i64 = 86_400;

/// The time in which a certificate is valid, in s since 1970, both ends inclusive.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Validity {
    /// The first second.
    pub not_before_s: i64,
    /// The last second.
    pub not_after_s: i64,
}

impl Validity {
    /// That of a certificate in DER; `None` when it is none.
    #[must_use]
    pub fn of_certificate(der: &[u8]) -> Option<Validity> {
        let (certificate, _) = take(der, SEQUENCE)?;
        let (mut rest, _) = take(certificate, SEQUENCE)?;
        if let Some((_, behind)) = take(rest, VERSION) {
            rest = behind;
        }
        for tag in [INTEGER, SEQUENCE, SEQUENCE] {
            rest = take(rest, tag)?.1;
        }
        let (validity, _) = take(rest, SEQUENCE)?;
        let (not_before_s, rest) = take_time(validity)?;
        let (not_after_s, _) = take_time(rest)?;
        Some(Validity { not_before_s, not_after_s })
    }

    /// Whole days that are left at this wall clock, in s; below 0 once it is over.
    #[must_use]
    pub fn days_left(&self, now_s: i64) -> i64 {
        self.not_after_s.saturating_sub(now_s).div_euclid(DAY_S)
    }
}

/// The content of the element with this tag, and what is behind it.
fn take(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (&first, rest) = der.split_first()?;
    let (&short, rest) = rest.split_first()?;
    if first != tag {
        return None;
    }
    let (len, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        // Long form: so many bytes of length follow; a certificate has no more than three.
        0x81..=0x83 => {
            let (bytes, rest) = rest.split_at_checked(usize::from(short - 0x80))?;
            (bytes.iter().fold(0, |len, byte| len << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(len)
}

fn take_time(der: &[u8]) -> Option<(i64, &[u8])> {
    if let Some((text, rest)) = take(der, UTC_TIME) {
        let (year, others) = text.split_at_checked(2)?;
        let year = number(year)?;
        // Two digits are of 1950 to 2049 (RFC 5280, 4.1.2.5.1).
        let year = if year < 50 { 2_000 + year } else { 1_900 + year };
        return Some((seconds(year, others)?, rest));
    }
    let (text, rest) = take(der, GENERALIZED_TIME)?;
    let (year, others) = text.split_at_checked(4)?;
    Some((seconds(number(year)?, others)?, rest))
}

/// The second of a year and `MMDDHHMMSSZ`.
fn seconds(year: i64, text: &[u8]) -> Option<i64> {
    let [month, day, hour, minute, second] = text.strip_suffix(b"Z")?.as_chunks::<2>().0 else {
        return None;
    };
    let (month, day) = (number(month)?, number(day)?);
    let (hour, minute, second) = (number(hour)?, number(minute)?, number(second)?);
    let is_sound = (1..=12).contains(&month) && (1..=31).contains(&day);
    if !is_sound || 23 < hour || 59 < minute || 60 < second || text.len() != 11 {
        return None;
    }
    Some(days_from_civil(year, month, day) * DAY_S + hour * 3_600 + minute * 60 + second)
}

fn number(digits: &[u8]) -> Option<i64> {
    let digit = |n: i64, byte: &u8| byte.is_ascii_digit().then(|| n * 10 + i64::from(byte - b'0'));
    digits.iter().try_fold(0, digit)
}

/// Days since 1970-01-01 in the Gregorian calendar (H. Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms", 2013).
fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let of_era = year.rem_euclid(400);
    let of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_read() {
        let utc = |text: &str| {
            let der = [&[UTC_TIME, text.len() as u8], text.as_bytes()].concat();
            take_time(&der).map(|(s, _)| s)
        };
        assert_eq!(utc("700101000000Z"), Some(0));
        assert_eq!(utc("491231235959Z"), Some(2_524_607_999));
        assert_eq!(utc("500101000000Z"), Some(-631_152_000));
        assert_eq!(utc("240229120000Z"), Some(1_709_208_000));
        for bad in ["", "7001010000Z", "700101000000", "701301000000Z", "7x0101000000Z"] {
            assert_eq!(utc(bad), None, "{bad}");
        }
        let late = b"99991231235959Z";
        let der = [&[GENERALIZED_TIME, late.len() as u8], &late[..]].concat();
        assert_eq!(take_time(&der).map(|(s, _)| s), Some(253_402_300_799));
    }

    #[test]
    fn days_are_counted_down() {
        let validity = Validity { not_before_s: 0, not_after_s: 2 * DAY_S };
        assert_eq!(validity.days_left(0), 2);
        assert_eq!(validity.days_left(DAY_S + 1), 0);
        assert_eq!(validity.days_left(2 * DAY_S), 0);
        assert_eq!(validity.days_left(2 * DAY_S + 1), -1);
    }

    #[test]
    fn a_made_certificate_tells_its_dates() {
        let mut params = rcgen::CertificateParams::new(vec!["a".to_owned()]).expect("a name");
        params.not_before = rcgen::date_time_ymd(2020, 2, 29);
        params.not_after = rcgen::date_time_ymd(2051, 1, 1);
        let key = rcgen::KeyPair::generate().expect("a key");
        let der = params.self_signed(&key).expect("signed").der().to_vec();
        let validity = Validity::of_certificate(&der).expect("read");
        assert_eq!(validity.not_before_s, 1_582_934_400);
        assert_eq!(validity.not_after_s, 2_556_144_000);
        for len in 0..der.len().min(200) {
            let _ = Validity::of_certificate(&der[..len]);
        }
    }

    proptest! {
        #[test]
        fn junk_is_no_certificate_and_does_no_harm(junk in prop::collection::vec(any::<u8>(), 0..80)) {
            let _ = Validity::of_certificate(&junk);
            let _ = Validity::of_certificate(&[&[SEQUENCE, 40, SEQUENCE, 38], &junk[..]].concat());
        }
    }
}

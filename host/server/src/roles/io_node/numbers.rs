//! The numbers of acknowledgements, which are doubles to JavaScript.
//!
//! Ours are integers. One that is too large for those is kept as its double's bits, and so is far below zero, where none of a client
//! is.

/// The bits of the least double that is kept so, and the sign.
const SIGN: u64 = 1 << 63;
/// Whole numbers below this are numbers themselves.
const LEAST: i64 = -(1 << 52);

/// The number of a packet in JSON that asks for an acknowledgement, when it is too large for an integer.
pub(super) fn beyond_integers(packet: &str) -> Option<i64> {
    let head = &packet[..packet.find('[')?];
    let head = head.rsplit(',').next().unwrap_or(head);
    // The type is a digit, too.
    let head = if head.len() == packet.find('[')? {
        head.get(1..)?
    } else {
        head
    };
    let head = head.rsplit('-').next().unwrap_or(head);
    let is_number = head.len() > 18 && head.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || head.parse::<i64>().is_ok() {
        return None;
    }
    let double: f64 = head.parse().ok()?;
    double.is_finite().then_some((double.to_bits() | SIGN) as i64)
}

/// As it is written in JSON.
pub(super) fn written(number: i64) -> String {
    match number < LEAST {
        true => f64::from_bits(number as u64 & !SIGN).to_string(),
        false => number.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_beyond_integers_are_doubles() {
        for (packet, number) in [
            ("29223372036854775808[\"a\"]", "9223372036854776000"),
            ("218446744073709551617[\"a\"]", "18446744073709552000"),
            ("2/a,18446744073709551617[\"a,b\"]", "18446744073709552000"),
            ("51-/a-b,1000000000000000000000[\"a\"]", "1000000000000000000000"),
            ("51-1000000000000000000000[\"a\"]", "1000000000000000000000"),
        ] {
            assert_eq!(
                beyond_integers(packet).map(written).as_deref(),
                Some(number),
                "{packet}"
            );
        }
        let huge = format!("2{}[\"a\"]", "9".repeat(400));
        for packet in [
            "2[\"a\"]",
            "27[]",
            "29223372036854775807[\"a\"]",
            "2",
            "",
            "2abc[",
            "é[",
            &huge,
        ] {
            assert_eq!(beyond_integers(packet), None, "{packet}");
        }
        assert_eq!(written(-1), "-1");
        assert_eq!(written(i64::MAX), "9223372036854775807");
    }
}

//! Acknowledgement ids, which JavaScript holds as doubles.
//!
//! Here they are `i64`. An id beyond that range is kept as the bits of its double with the sign bit set. The result is far below zero, where
//! no client has ids.

/// The id of acknowledgements that have none. The server's events have ids from 1.
pub(crate) const NO_EVENT: i64 = 0;

const SIGN_BIT: u64 = 1 << 63;
/// An `i64` below this holds the bits of a double.
const MIN_INTEGER: i64 = -(1 << 52);

/// The acknowledgement id of a packet in JSON if it is beyond `i64`. None for any other packet.
pub(crate) fn beyond_i64(packet: &str) -> Option<i64> {
    let payload_start = packet.find('[')?;
    let head = &packet[..payload_start];
    let after_namespace = match head.rsplit_once(',') {
        Some((_, rest)) => rest,
        // Without a namespace, the packet type is the first digit.
        None => head.get(1..)?,
    };
    let id = after_namespace.rsplit('-').next().unwrap_or(after_namespace);
    let is_number = id.len() > 18 && id.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number || id.parse::<i64>().is_ok() {
        return None;
    }
    let double: f64 = id.parse().ok()?;
    double.is_finite().then_some((double.to_bits() | SIGN_BIT) as i64)
}

/// The id as it is written in a packet.
pub(crate) fn to_text(id: i64) -> String {
    match id < MIN_INTEGER {
        true => f64::from_bits(id as u64 & !SIGN_BIT).to_string(),
        false => id.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_beyond_i64_are_doubles() {
        for (packet, id) in [
            ("29223372036854775808[\"a\"]", "9223372036854776000"),
            ("218446744073709551617[\"a\"]", "18446744073709552000"),
            ("2/a,18446744073709551617[\"a,b\"]", "18446744073709552000"),
            ("51-/a-b,1000000000000000000000[\"a\"]", "1000000000000000000000"),
            ("51-1000000000000000000000[\"a\"]", "1000000000000000000000"),
        ] {
            assert_eq!(beyond_i64(packet).map(to_text).as_deref(), Some(id), "{packet}");
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
            assert_eq!(beyond_i64(packet), None, "{packet}");
        }
        assert_eq!(to_text(-1), "-1");
        assert_eq!(to_text(i64::MAX), "9223372036854775807");
    }
}

//! Byte sizes in the notation of the configuration.

/// A size as the configuration writes it: `64MB`, or `12345 bytes` if no unit divides it. Binary and decimal units have the
/// same names there.
pub(crate) fn byte_size(bytes: usize) -> String {
    const UNITS: [(&str, usize, usize); 3] = [
        ("GB", 1 << 30, 1_000_000_000),
        ("MB", 1 << 20, 1_000_000),
        ("KB", 1 << 10, 1_000),
    ];
    for (unit, binary, decimal) in UNITS {
        for size in [binary, decimal] {
            if bytes >= size && bytes.is_multiple_of(size) {
                return format!("{}{unit}", bytes / size);
            }
        }
    }
    format!("{bytes} bytes")
}

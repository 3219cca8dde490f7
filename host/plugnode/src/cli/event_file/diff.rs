//! Line diff of expected and actual effects.

/// Limit of the comparison, in pairs of lines. Longer lists are shown one after the other.
const MAX_PAIRS: usize = 1_000_000;

/// The lines of both, prefixed by `-` (expected), `+` (actual) or a space (both).
pub(in super::super) fn diff(expected: &[String], actual: &[String]) -> Vec<String> {
    if expected.len().saturating_mul(actual.len()) > MAX_PAIRS {
        let missing = expected.iter().map(|line| format!("- {line}"));
        return missing.chain(actual.iter().map(|line| format!("+ {line}"))).collect();
    }
    // Length of the longest common subsequence of the lines from each pair of positions on.
    let mut lengths = vec![vec![0_usize; actual.len() + 1]; expected.len() + 1];
    for i in (0..expected.len()).rev() {
        for j in (0..actual.len()).rev() {
            lengths[i][j] = match expected[i] == actual[j] {
                true => lengths[i + 1][j + 1] + 1,
                false => lengths[i + 1][j].max(lengths[i][j + 1]),
            };
        }
    }
    let mut lines = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < expected.len() || j < actual.len() {
        if i < expected.len() && j < actual.len() && expected[i] == actual[j] {
            lines.push(format!("  {}", actual[j]));
            (i, j) = (i + 1, j + 1);
        } else if i < expected.len() && (j == actual.len() || lengths[i + 1][j] >= lengths[i][j + 1]) {
            lines.push(format!("- {}", expected[i]));
            i += 1;
        } else {
            lines.push(format!("+ {}", actual[j]));
            j += 1;
        }
    }
    lines
}

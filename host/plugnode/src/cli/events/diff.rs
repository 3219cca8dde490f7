//! Two lists of lines beside each other: what is expected and did not come, and what came instead.

/// The most pairs of lines that are compared.
const MOST_PAIRS: usize = 1_000_000;

/// The lines of both, each with `-`, `+` or a space before it.
pub(in super::super) fn diff(expected: &[String], came: &[String]) -> Vec<String> {
    if expected.len().saturating_mul(came.len()) > MOST_PAIRS {
        let missing = expected.iter().map(|line| format!("- {line}"));
        return missing.chain(came.iter().map(|line| format!("+ {line}"))).collect();
    }
    // Lengths of the longest common subsequence of what follows each pair of places.
    let mut lengths = vec![vec![0_usize; came.len() + 1]; expected.len() + 1];
    for i in (0..expected.len()).rev() {
        for j in (0..came.len()).rev() {
            lengths[i][j] = match expected[i] == came[j] {
                true => lengths[i + 1][j + 1] + 1,
                false => lengths[i + 1][j].max(lengths[i][j + 1]),
            };
        }
    }
    let mut lines = Vec::new();
    let (mut i, mut j) = (0, 0);
    while i < expected.len() || j < came.len() {
        if i < expected.len() && j < came.len() && expected[i] == came[j] {
            lines.push(format!("  {}", came[j]));
            (i, j) = (i + 1, j + 1);
        } else if i < expected.len() && (j == came.len() || lengths[i + 1][j] >= lengths[i][j + 1]) {
            lines.push(format!("- {}", expected[i]));
            i += 1;
        } else {
            lines.push(format!("+ {}", came[j]));
            j += 1;
        }
    }
    lines
}

//! Rows that take the same step become one edge.

use crate::error::{Error, Result, check_len};

/// Edges sorted by source, action and target, and what each has of the rows.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Edges {
    /// Edge of each row.
    pub of_row: Vec<i64>,
    /// A row of each edge.
    pub row: Vec<i64>,
    /// Rows of each edge.
    pub visits: Vec<i64>,
    /// Distinct trajectories of each edge.
    pub trajectories: Vec<i64>,
    /// Edges of source `u` are `offsets[u]..offsets[u + 1]`.
    pub offsets: Vec<i64>,
}

/// The edges of rows with a source, an action (any number), a target and a trajectory each.
///
/// # Errors
/// [`Error::Length`] if the columns differ in length, [`Error::Range`] for numbers that are none of `n_nodes` nodes or
/// that are negative or past 2**32, [`Error::TooLarge`] for more nodes than rows can have.
pub fn edges(
    source: &[i64],
    action: &[i64],
    target: &[i64],
    trajectory: &[i64],
    n_nodes: usize,
) -> Result<Edges> {
    check_len("action", action.len(), source.len(), "the number of rows")?;
    check_len("target", target.len(), source.len(), "the number of rows")?;
    check_len("trajectory", trajectory.len(), source.len(), "the number of rows")?;
    // Every node has a row that leaves it or leads to it.
    let limit = 2 * source.len() as u64;
    if n_nodes as u64 > limit {
        return Err(Error::TooLarge { arg: "n_nodes", limit, got: n_nodes as u64 });
    }
    let mut starts = vec![0usize; n_nodes + 1];
    for &u in source {
        starts[node(u, n_nodes)? + 1] += 1;
    }
    for u in 0..n_nodes {
        starts[u + 1] += starts[u];
    }
    let mut rows = vec![[0u32; 4]; source.len()];
    let mut next = starts.clone();
    for (row, &u) in source.iter().enumerate() {
        let place = &mut next[u as usize];
        rows[*place] = [
            narrow("action", action[row])?,
            node(target[row], n_nodes)? as u32,
            narrow("trajectory", trajectory[row])?,
            narrow("row", row as i64)?,
        ];
        *place += 1;
    }
    let mut made = Edges { of_row: vec![0; source.len()], ..Edges::default() };
    made.offsets.push(0);
    for w in starts.windows(2) {
        let here = &mut rows[w[0]..w[1]];
        here.sort_unstable();
        let mut before = None;
        for &[action, target, trajectory, row] in here.iter() {
            if before.is_none_or(|(a, t, _)| (a, t) != (action, target)) {
                made.row.push(i64::from(row));
                made.visits.push(0);
                made.trajectories.push(0);
            }
            let edge = made.row.len() - 1;
            made.of_row[row as usize] = edge as i64;
            made.visits[edge] += 1;
            made.trajectories[edge] += i64::from(before != Some((action, target, trajectory)));
            before = Some((action, target, trajectory));
        }
        made.offsets.push(made.row.len() as i64);
    }
    Ok(made)
}

fn outside(arg: &'static str, got: i64, n: usize) -> Error {
    Error::Range {
        arg,
        expected: format!("between 0 and {n} (the number of nodes), exclusive"),
        got: got.to_string(),
    }
}

fn node(u: i64, n: usize) -> Result<usize> {
    usize::try_from(u).ok().filter(|&u| u < n).ok_or_else(|| outside("node", u, n))
}

fn narrow(arg: &'static str, x: i64) -> Result<u32> {
    u32::try_from(x).map_err(|_| Error::Range {
        arg,
        expected: "between 0 and 2**32".into(),
        got: x.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_one_step_are_one_edge() {
        // (1, a1, 0) by trajectories 0, 0 and 1; (0, a0, 2) once; (1, a0, 2) once.
        let made = edges(&[1, 0, 1, 1, 1], &[1, 0, 1, 0, 1], &[0, 2, 0, 2, 0], &[0, 0, 0, 1, 1], 3).unwrap();
        assert_eq!(made.of_row, [2, 0, 2, 1, 2]);
        assert_eq!(made.visits, [1, 1, 3]);
        assert_eq!(made.trajectories, [1, 1, 2]);
        assert_eq!(made.offsets, [0, 1, 3, 3]);
        assert_eq!(made.row, [1, 3, 0]);
        assert_eq!(edges(&[], &[], &[], &[], 0).unwrap().offsets, [0]);
    }

    #[test]
    fn bad_numbers_are_errors() {
        assert!(edges(&[2], &[0], &[0], &[0], 2).is_err());
        assert!(edges(&[0], &[0], &[-1], &[0], 2).is_err());
        assert!(edges(&[0], &[-1], &[0], &[0], 2).is_err());
        assert!(edges(&[0], &[], &[0], &[0], 2).is_err());
        assert!(edges(&[0], &[0], &[0], &[0], usize::MAX).is_err());
    }
}

//! Windows over the steps before each row.
//!
//! A window of `2 n` steps is a pair of windows of `n` steps, so a window of any length takes a few passes: as many as its
//! length has binary digits, and one more for each digit that is 1. Every pass tells pairs apart exactly.

use super::rows::first_rows;
use crate::error::{Error, Result, check_len};
use crate::groups::Groups;
use crate::par::Par;

/// The start of a trajectory, as a row and as an item.
const START: u32 = u32::MAX;

/// A number for the `history` steps before each row, the same where the steps are: those of one task, with the same
/// numbers in all columns. The start of a trajectory counts as a step. `previous` is the row before each row, -1 for none.
///
/// # Errors
/// [`Error::Length`] if an argument has not one element a row, [`Error::Structure`] if `previous` is no row.
pub fn window(
    columns: &[&[u32]],
    previous: &[i64],
    history: usize,
    tasks: &Groups,
    par: Par,
) -> Result<Vec<u32>> {
    check_len("previous", previous.len(), tasks.len(), "the number of rows")?;
    let mut back: Vec<u32> = Vec::with_capacity(previous.len());
    for (row, &p) in previous.iter().enumerate() {
        if p < -1 || p >= previous.len() as i64 {
            let reason = format!("has {p} at index {row}, which is no row");
            return Err(Error::Structure { arg: "previous", reason });
        }
        back.push(if p < 0 { START } else { p as u32 });
    }
    // `block` numbers the last `size` steps, `back` is the row before them; `out` has the last `done` steps, `at` is the
    // row before those.
    let mut block = gather(&first_rows(columns, tasks, par)?, &back);
    let (mut out, mut at): (Option<Vec<u32>>, Vec<u32>) = (None, (0..previous.len() as u32).collect());
    let (mut left, mut size) = (history, 1);
    while left > 0 {
        if left & size != 0 {
            let more = gather(&block, &at);
            out = Some(match out {
                None => more,
                Some(out) => first_rows(&[&out, &more], tasks, par)?,
            });
            at = gather(&back, &at);
            left -= size;
        }
        if left > 0 {
            block = first_rows(&[&block, &gather(&block, &back)], tasks, par)?;
            back = gather(&back, &back);
            size *= 2;
        }
    }
    Ok(out.unwrap_or_else(|| vec![START; previous.len()]))
}

fn gather(x: &[u32], at: &[u32]) -> Vec<u32> {
    at.iter().map(|&row| x.get(row as usize).copied().unwrap_or(START)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn windows_are_the_same_where_their_steps_are(
            rows in prop::collection::vec((0u32..5, 0u32..2, 0u32..2), 0..40),
            history in 0usize..12,
        ) {
            // Trajectories are interleaved; those with an even number are of one task.
            let tasks = Groups::from_ids(&rows.iter().map(|r| i64::from(r.0 % 2)).collect::<Vec<_>>()).unwrap();
            let previous: Vec<i64> = (0..rows.len())
                .map(|i| (0..i).rfind(|&j| rows[j].0 == rows[i].0).map_or(-1, |j| j as i64))
                .collect();
            let (a, b): (Vec<u32>, Vec<u32>) = rows.iter().map(|r| (r.1, r.2)).unzip();
            let before = |mut row: usize| {
                let mut steps = Vec::new();
                while steps.len() < history && previous[row] >= 0 {
                    row = previous[row] as usize;
                    steps.push((a[row], b[row]));
                }
                steps
            };
            let numbers = window(&[&a, &b], &previous, history, &tasks, Par::Serial).unwrap();
            for i in 0..rows.len() {
                for j in 0..i {
                    if rows[i].0 % 2 == rows[j].0 % 2 {
                        prop_assert_eq!(numbers[i] == numbers[j], before(i) == before(j), "{} {}", i, j);
                    }
                }
            }
        }
    }

    #[test]
    fn a_row_before_that_is_none_is_an_error() {
        let tasks = Groups::from_ids(&[0, 0]).unwrap();
        for previous in [&[-1, 2][..], &[-2, 0], &[-1]] {
            assert!(window(&[&[0, 0]], previous, 1, &tasks, Par::Serial).is_err());
        }
    }
}

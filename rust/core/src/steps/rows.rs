//! Rows of a task that agree on several columns of numbers.

use super::table::Table;
use crate::error::{Result, check_len};
use crate::groups::Groups;
use crate::par::{Par, balanced, for_pieces};

/// Groups of the rows that are of one task and agree on all columns.
///
/// # Errors
/// [`crate::Error::Length`] if a column has not one number a row.
pub fn group_rows(columns: &[&[u32]], tasks: &Groups, par: Par) -> Result<Groups> {
    let mut index = first_rows(columns, tasks, par)?;
    let mut n = 0u32;
    for row in 0..index.len() {
        let first = index[row] as usize;
        index[row] = if first == row { n } else { index[first] };
        n += u32::from(first == row);
    }
    Groups::from_index(index, n as usize)
}

/// The first row of the same task with the same numbers, for each row.
pub(super) fn first_rows(columns: &[&[u32]], tasks: &Groups, par: Par) -> Result<Vec<u32>> {
    for column in columns {
        check_len("columns", column.len(), tasks.len(), "the number of rows")?;
    }
    let offsets = tasks.offsets();
    let pieces = match par {
        Par::Serial => vec![0, tasks.n_groups()],
        Par::Threads => balanced(offsets, 4 * rayon::current_num_threads()),
    };
    let bounds: Vec<usize> = pieces.iter().map(|&t| offsets[t]).collect();
    let mut by_task = vec![0u32; tasks.len()];
    for_pieces(par, &mut by_task, &bounds, |piece, out| {
        let mut table = Table::default();
        let mut slots = out.iter_mut();
        for task in pieces[piece]..pieces[piece + 1] {
            let rows = tasks.rows(task);
            table.start(rows.len());
            for (&row, slot) in rows.iter().zip(&mut slots) {
                let r = row as usize;
                let hash = columns.iter().fold(0, |h, column| mix(h ^ u64::from(column[r])));
                let same = |other: u32| columns.iter().all(|column| column[other as usize] == column[r]);
                *slot = table.first(hash, row, same);
            }
        }
    });
    let mut firsts = vec![0u32; tasks.len()];
    for (&row, first) in tasks.order().iter().zip(by_task) {
        firsts[row as usize] = first;
    }
    Ok(firsts)
}

/// Spreads every bit over all others, so that both ends of the result may be used.
fn mix(x: u64) -> u64 {
    let wide = u128::from(x ^ 0x9e37_79b9_7f4a_7c15) * 0xa076_1d64_78bd_642f;
    (wide as u64) ^ ((wide >> 64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_a_task_that_agree() {
        let tasks = Groups::from_ids(&[0, 1, 0, 0, 1, 0]).unwrap();
        let (a, b) = ([5, 5, 5, 5, 5, 6], [1, 1, 2, 1, 1, 1]);
        for par in [Par::Serial, Par::Threads] {
            assert_eq!(first_rows(&[&a, &b], &tasks, par).unwrap(), [0, 1, 2, 0, 1, 5]);
            assert_eq!(group_rows(&[&a, &b], &tasks, par).unwrap().index(), [0, 1, 2, 0, 1, 3]);
            assert_eq!(group_rows(&[], &tasks, par).unwrap().index(), tasks.index());
        }
        assert!(group_rows(&[&a[1..]], &tasks, Par::Serial).is_err());
    }
}

//! Group ids turned into a dense index and a CSR (compressed sparse row) order.

use rustc_hash::FxHashMap;

use crate::error::{Error, Result, check_len};

/// Rows of each group, groups in order of first appearance, rows of a group in input order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Groups {
    index: Vec<u32>,
    order: Vec<u32>,
    offsets: Vec<usize>,
}

/// Row and group numbers are 32 bits wide.
pub const MAX_ROWS: u64 = u32::MAX as u64;

impl Groups {
    /// From the dense group index of each row; every group `0..n_groups` must have a row.
    ///
    /// # Errors
    /// [`Error::Structure`] if an index is out of range or a group has no row, [`Error::TooLarge`] past 2^32 - 1 rows.
    pub fn from_index(index: Vec<u32>, n_groups: usize) -> Result<Self> {
        check_rows("ids", index.len())?;
        if n_groups > index.len() {
            let reason = format!("has {} rows, too few for {n_groups} groups", index.len());
            return Err(Error::Structure { arg: "index", reason });
        }
        let mut offsets = vec![0usize; n_groups + 1];
        for (row, &g) in index.iter().enumerate() {
            match offsets.get_mut(g as usize + 1) {
                Some(count) => *count += 1,
                None => {
                    let reason = format!("has group {g} at row {row}, but there are {n_groups} groups");
                    return Err(Error::Structure { arg: "index", reason });
                }
            }
        }
        if let Some(g) = offsets.iter().skip(1).position(|&c| c == 0) {
            return Err(Error::Structure { arg: "index", reason: format!("has no row for group {g}") });
        }
        for g in 0..n_groups {
            offsets[g + 1] += offsets[g];
        }
        let mut next = offsets.clone();
        let mut order = vec![0u32; index.len()];
        for (row, &g) in index.iter().enumerate() {
            let slot = &mut next[g as usize];
            order[*slot] = row as u32;
            *slot += 1;
        }
        Ok(Self { index, order, offsets })
    }

    /// From one integer id a row.
    ///
    /// # Errors
    /// [`Error::TooLarge`] past 2^32 - 1 rows.
    pub fn from_ids(ids: &[i64]) -> Result<Self> {
        check_rows("ids", ids.len())?;
        let (lo, hi) = ids.iter().fold((i64::MAX, i64::MIN), |(lo, hi), &x| (lo.min(x), hi.max(x)));
        let mut n_groups = 0u32;
        let mut index = Vec::with_capacity(ids.len());
        // A table is several times faster than hashing and fits whenever the ids are near to dense.
        match (hi as i128 - lo as i128).try_into() {
            Ok(range) if !ids.is_empty() && usize::le(&range, &(4 * ids.len() + 1024)) => {
                let mut table = vec![u32::MAX; range + 1];
                for &id in ids {
                    let slot = &mut table[(id - lo) as usize];
                    if *slot == u32::MAX {
                        *slot = n_groups;
                        n_groups += 1;
                    }
                    index.push(*slot);
                }
            }
            _ => {
                let mut table: FxHashMap<i64, u32> = FxHashMap::default();
                for &id in ids {
                    let g = *table.entry(id).or_insert(n_groups);
                    n_groups += u32::from(g == n_groups);
                    index.push(g);
                }
            }
        }
        Self::from_index(index, n_groups as usize)
    }

    /// Groups that hold the rows on which all of `parts` agree.
    ///
    /// # Errors
    /// [`Error::Length`] if the parts differ in length.
    pub fn product(parts: &[&Self]) -> Result<Self> {
        let [head, tail @ ..] = parts else {
            return Err(Error::Structure { arg: "groups", reason: "must name at least one part".into() });
        };
        let mut made = (*head).clone();
        for part in tail {
            check_len("groups", part.len(), made.len(), "the rows of the first part")?;
            let width = part.n_groups() as i64;
            let pairs = made.index.iter().zip(&part.index);
            // Both factors are below 2^32. Numbering anew after each part keeps it so for any number of parts.
            made = Self::from_ids(
                &pairs.map(|(&a, &b)| i64::from(a) * width + i64::from(b)).collect::<Vec<_>>(),
            )?;
        }
        Ok(made)
    }

    /// Number of rows.
    #[must_use]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// True if there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Number of groups.
    #[must_use]
    pub fn n_groups(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Group of each row.
    #[must_use]
    pub fn index(&self) -> &[u32] {
        &self.index
    }

    /// Rows sorted by group.
    #[must_use]
    pub fn order(&self) -> &[u32] {
        &self.order
    }

    /// Where each group starts in [`Groups::order`].
    #[must_use]
    pub fn offsets(&self) -> &[usize] {
        &self.offsets
    }

    /// Rows of group `g`.
    #[must_use]
    pub fn rows(&self, g: usize) -> &[u32] {
        &self.order[self.offsets[g]..self.offsets[g + 1]]
    }
}

fn check_rows(arg: &'static str, n: usize) -> Result<()> {
    if n as u64 >= MAX_ROWS {
        Err(Error::TooLarge { arg, limit: MAX_ROWS - 1, got: n as u64 })
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_appearance_and_input_order() {
        for ids in [vec![7, 3, 7, 9, 3, 7], vec![7, -3_000_000_000_000, 7, i64::MAX, -3_000_000_000_000, 7]] {
            let g = Groups::from_ids(&ids).unwrap();
            assert_eq!(g.index(), [0, 1, 0, 2, 1, 0]);
            assert_eq!(g.order(), [0, 2, 5, 1, 4, 3]);
            assert_eq!(g.offsets(), [0, 3, 5, 6]);
        }
    }

    #[test]
    fn extreme_ids_do_not_overflow() {
        let g = Groups::from_ids(&[i64::MIN, i64::MAX, i64::MIN]).unwrap();
        assert_eq!(g.index(), [0, 1, 0]);
        assert_eq!(Groups::from_ids(&[]).unwrap().n_groups(), 0);
    }

    #[test]
    fn product_splits() {
        let a = Groups::from_ids(&[1, 1, 2, 2, 1]).unwrap();
        let b = Groups::from_ids(&[0, 5, 0, 0, 0]).unwrap();
        let p = Groups::product(&[&a, &b]).unwrap();
        assert_eq!(p.index(), [0, 1, 2, 2, 0]);
    }

    #[test]
    fn a_bad_index_is_an_error() {
        assert!(Groups::from_index(vec![0, 2], 2).is_err());
        assert!(Groups::from_index(vec![0, 0], 2).is_err());
    }
}

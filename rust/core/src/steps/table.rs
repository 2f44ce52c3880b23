//! A hash table for the items of one task after another: small, cleared often, and exact.

/// Slots of (tag, item + 1); an item of 0 is an empty slot. Items are compared by the caller wherever tags agree, so a
/// collision of hashes costs time and never merges two keys.
#[derive(Debug, Default)]
pub(super) struct Table {
    slots: Vec<(u32, u32)>,
    mask: usize,
}

impl Table {
    /// Empties the table and makes room for `n` items. Only the slots that they need are touched, so that the table of
    /// a small task stays in the cache whatever the tasks before it were.
    pub(super) fn start(&mut self, n: usize) {
        let size = (2 * n).next_power_of_two().max(16);
        if self.slots.len() < size {
            self.slots.resize(size, (0, 0));
        }
        self.slots[..size].fill((0, 0));
        self.mask = size - 1;
    }

    /// The first item that was asked for and is the same as `item`; `item` itself if it is the first.
    pub(super) fn first(&mut self, hash: u64, item: u32, mut same: impl FnMut(u32) -> bool) -> u32 {
        let tag = (hash >> 32) as u32;
        let mut at = hash as usize & self.mask;
        loop {
            match self.slots[at] {
                (_, 0) => {
                    self.slots[at] = (tag, item + 1);
                    return item;
                }
                (t, one_more) if t == tag && same(one_more - 1) => return one_more - 1,
                _ => at = (at + 1) & self.mask,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_hashes_are_told_apart() {
        let mut table = Table::default();
        for _ in 0..2 {
            table.start(40);
            let firsts: Vec<u32> = (0..40).map(|i| table.first(7, i, |j| j % 5 == i % 5)).collect();
            assert_eq!(firsts, (0..40).map(|i| i % 5).collect::<Vec<_>>());
        }
    }
}

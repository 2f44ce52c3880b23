//! Columns of keys as dense numbers.
//!
//! Keys are those of a task: equal bytes in different tasks are different keys. Each task is hashed and looked up on its
//! own, so that its table and the keys it is compared with stay in the cache and every key is read from memory once. A task
//! that is too large for one thread is cut, and the keys of its parts are numbered together.

use std::borrow::Cow;

use xxhash_rust::xxh3::{Xxh3Default, xxh3_128};

use super::table::Table;
use crate::error::{Error, Result, check_len};
use crate::groups::{Groups, MAX_ROWS};
use crate::par::{Par, balanced, for_pieces};

/// Numbers of keys, from [`number_keys`].
#[derive(Debug, PartialEq, Eq)]
pub struct Keys {
    /// Number of the key of each item, column after column; numbers are in order of first appearance.
    pub index: Vec<u32>,
    /// Place of each number among all, sorted by task, hash and bytes: within a task it does not depend on the order of
    /// the rows.
    pub rank: Vec<u32>,
}

/// Numbers the keys of one or more columns together; `columns[c][row]` is a key of the task of `row`.
///
/// `soon` is called with keys that will be read a little later, for what the processor can do ahead of that.
///
/// # Errors
/// [`Error::Length`] if a column has not one key a row, [`Error::TooLarge`] past 2^32 - 1 keys in all.
pub fn number_keys(
    columns: &[&[&[u8]]],
    tasks: &Groups,
    par: Par,
    soon: impl Fn(&[u8]) + Sync,
) -> Result<Keys> {
    number_with(columns, tasks, par, PART, |bytes| hash_of(bytes, &soon), &soon)
}

/// xxh3, block by block where a key is long, so that blocks are announced across the ends of pages, too.
fn hash_of(bytes: &[u8], soon: impl Fn(&[u8])) -> u128 {
    const BLOCK: usize = 512;
    const BLOCKS_AHEAD: usize = 4;
    if bytes.len() < BLOCKS_AHEAD * BLOCK {
        return xxh3_128(bytes);
    }
    let mut hasher = Xxh3Default::new();
    for (k, block) in bytes.chunks(BLOCK).enumerate() {
        if let Some(later) = bytes.get((k + BLOCKS_AHEAD) * BLOCK..) {
            soon(&later[..later.len().min(BLOCK)]);
        }
        hasher.update(block);
    }
    hasher.digest128()
}

/// Items of a task that are looked up in one table, if there are threads to share a task.
const PART: usize = 1 << 15;
/// How many keys before its turn a key is announced.
const AHEAD: usize = 4;

/// The first item of a key in its task, and the hash of the key.
type First = (u128, u32);

fn number_with(
    columns: &[&[&[u8]]],
    tasks: &Groups,
    par: Par,
    part: usize,
    hash: impl Fn(&[u8]) -> u128 + Sync,
    soon: impl Fn(&[u8]) + Sync,
) -> Result<Keys> {
    let rows = tasks.len();
    for column in columns {
        check_len("state", column.len(), rows, "the number of rows")?;
    }
    let n_items = rows * columns.len();
    if n_items as u64 >= MAX_ROWS {
        return Err(Error::TooLarge { arg: "state", limit: MAX_ROWS - 1, got: n_items as u64 });
    }
    let key = |item: u32| {
        let item = item as usize;
        if item < rows { columns[0][item] } else { columns[item / rows][item % rows] }
    };
    let by_key = |a: &First, b: &First| a.0.cmp(&b.0).then_with(|| key(a.1).cmp(key(b.1)));
    let items = by_task(tasks, columns.len());
    let parts = Parts::new(tasks, columns.len(), if par == Par::Serial { usize::MAX } else { part });

    // Parts are numbered on their own: the first item of each item's key, and the keys.
    let pieces = match par {
        Par::Serial => vec![0, parts.offsets.len() - 1],
        Par::Threads => balanced(&parts.offsets, 8 * rayon::current_num_threads()),
    };
    let bounds: Vec<usize> = pieces.iter().map(|&p| parts.offsets[p]).collect();
    let mut firsts = vec![0u32; n_items];
    let mut work = split(&mut firsts, &bounds);
    let each: Vec<usize> = (0..=work.len()).collect();
    for_pieces(par, &mut work, &each, |piece, one| {
        let [(firsts, found)] = one else { return };
        let (mut table, mut slots) = (Table::default(), firsts.iter_mut());
        for p in pieces[piece]..pieces[piece + 1] {
            let (range, mut fresh) = (parts.offsets[p]..parts.offsets[p + 1], Vec::new());
            table.start(range.len());
            for (place, slot) in range.zip(&mut slots) {
                if let Some(&later) = items.get(place + AHEAD) {
                    soon(key(later));
                }
                let (item, bytes) = (items[place], key(items[place]));
                let h = hash(bytes);
                *slot = table.first(h as u64, item, |other| key(other) == bytes);
                if *slot == item {
                    fresh.push((h, item));
                }
            }
            if parts.is_whole(p) {
                fresh.sort_unstable_by(by_key);
            }
            found.push(fresh);
        }
    });
    let found: Vec<Vec<First>> = work.into_iter().flat_map(|(_, found)| found).collect();
    let mut found = found.into_iter();

    // Tasks of several parts are put together; `index` is the first item of each item's key now.
    let mut index = vec![0u32; n_items];
    let mut ranked = Vec::with_capacity(n_items.min(rows));
    let mut table = Table::default();
    for w in parts.of_task.windows(2) {
        let places = parts.offsets[w[0]]..parts.offsets[w[1]];
        let mut keys: Vec<First> = found.next().unwrap_or_default();
        if w[1] - w[0] > 1 {
            (1..w[1] - w[0]).for_each(|_| keys.extend(found.next().unwrap_or_default()));
            table.start(keys.len());
            for &(h, item) in &keys {
                index[item as usize] = table.first(h as u64, item, |other| key(other) == key(item));
            }
            keys.retain(|&(_, item)| index[item as usize] == item);
            keys.sort_unstable_by(by_key);
            for place in places {
                index[items[place] as usize] = index[firsts[place] as usize];
            }
        } else {
            places.for_each(|place| index[items[place] as usize] = firsts[place]);
        }
        ranked.extend(keys.iter().map(|&(_, item)| item));
    }

    // In the order of the items the first item of a key comes before all others.
    let mut n = 0u32;
    for item in 0..n_items {
        let first = index[item] as usize;
        index[item] = if first == item { n } else { index[first] };
        n += u32::from(first == item);
    }
    let mut rank = vec![0u32; n as usize];
    for (place, &item) in ranked.iter().enumerate() {
        rank[index[item as usize] as usize] = place as u32;
    }
    Ok(Keys { index, rank })
}

/// What each piece of a loop writes: its part of `firsts`, and the keys of each of its parts.
fn split<'a>(firsts: &'a mut [u32], bounds: &[usize]) -> Vec<(&'a mut [u32], Vec<Vec<First>>)> {
    let mut rest = firsts;
    let cut = |w: &[usize]| {
        let (head, tail) = std::mem::take(&mut rest).split_at_mut(w[1] - w[0]);
        rest = tail;
        (head, Vec::new())
    };
    bounds.windows(2).map(cut).collect()
}

/// The items, task by task; those of a task are its rows of one column after another.
fn by_task(tasks: &Groups, columns: usize) -> Cow<'_, [u32]> {
    if columns == 1 {
        return Cow::Borrowed(tasks.order());
    }
    let n = tasks.len() as u32;
    let of_task =
        |t| (0..columns as u32).flat_map(move |c| tasks.rows(t).iter().map(move |&row| c * n + row));
    (0..tasks.n_groups()).flat_map(of_task).collect()
}

/// Tasks, each cut into parts of some size.
struct Parts {
    /// Where the items of each part start.
    offsets: Vec<usize>,
    /// The first part of each task.
    of_task: Vec<usize>,
    whole: Vec<bool>,
}

impl Parts {
    fn new(tasks: &Groups, columns: usize, size: usize) -> Self {
        let mut parts = Self { offsets: vec![0], of_task: vec![0], whole: Vec::new() };
        for w in tasks.offsets().windows(2) {
            let (start, end) = (w[0] * columns, w[1] * columns);
            let n = (end - start).div_ceil(size).max(1);
            parts.offsets.extend((1..=n).map(|p| start + (end - start) / n * p).take(n - 1));
            parts.offsets.push(end);
            parts.of_task.push(parts.offsets.len() - 1);
            parts.whole.extend(std::iter::repeat_n(n == 1, n));
        }
        parts
    }

    fn is_whole(&self, part: usize) -> bool {
        self.whole[part]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    /// By dictionaries: numbers in order of first appearance.
    fn slow(columns: &[&[&[u8]]], tasks: &Groups) -> Vec<u32> {
        let mut seen: HashMap<(u32, &[u8]), u32> = HashMap::new();
        let all = columns.iter().flat_map(|c| c.iter().zip(tasks.index()));
        all.map(|(&key, &task)| {
            let next = seen.len() as u32;
            *seen.entry((task, key)).or_insert(next)
        })
        .collect()
    }

    fn threads<R: Send>(f: impl FnOnce() -> R + Send) -> R {
        rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap().install(f)
    }

    proptest! {
        #[test]
        fn numbers_agree_with_a_dictionary_whatever_the_hash_is(
            rows in prop::collection::vec((0i64..3, 0usize..6, 0usize..6), 0..40),
            two in any::<bool>(),
        ) {
            let words: [&[u8]; 6] = [b"", b"a", b"b", b"ab", b"\xff\x00", b"a much longer text than the others"];
            let tasks = Groups::from_ids(&rows.iter().map(|r| r.0).collect::<Vec<_>>()).unwrap();
            let state: Vec<&[u8]> = rows.iter().map(|r| words[r.1]).collect();
            let next: Vec<&[u8]> = rows.iter().map(|r| words[r.2]).collect();
            let columns: &[&[&[u8]]] = if two { &[&state, &next] } else { &[&state] };
            let expected = slow(columns, &tasks);
            let keys = number_keys(columns, &tasks, Par::Serial, |_| ()).unwrap();
            prop_assert_eq!(&keys.index, &expected);
            prop_assert_eq!(&threads(|| number_keys(columns, &tasks, Par::Threads, |_| ())).unwrap(), &keys);
            let cut = threads(|| number_with(columns, &tasks, Par::Threads, 1, xxh3_128, |_| ())).unwrap();
            prop_assert_eq!(&cut, &keys);
            // All keys have the hash 7, or one of four that differ in the leading bits.
            for weak in [|_: &[u8]| 7u128, |b: &[u8]| (b.len() as u128 % 4) << 125] {
                for (par, part) in [(Par::Serial, 1), (Par::Threads, 1), (Par::Threads, 7)] {
                    let keys = threads(|| number_with(columns, &tasks, par, part, weak, |_| ())).unwrap();
                    prop_assert_eq!(&keys.index, &expected);
                }
            }
        }

        #[test]
        fn ranks_are_places_that_do_not_know_the_order_of_rows(
            rows in prop::collection::vec((0i64..3, 0usize..6), 0..30),
            weak in any::<bool>(),
        ) {
            let words: [&[u8]; 6] = [b"", b"a", b"b", b"ab", b"\xff\x00", b"c"];
            let hash = |b: &[u8]| if weak { 7 } else { xxh3_128(b) };
            let ranked = |rows: &[(i64, usize)]| {
                let tasks = Groups::from_ids(&rows.iter().map(|r| r.0).collect::<Vec<_>>()).unwrap();
                let keys: Vec<&[u8]> = rows.iter().map(|r| words[r.1]).collect();
                let made = number_with(&[&keys], &tasks, Par::Serial, 1, hash, |_| ()).unwrap();
                let mut sorted = made.rank.clone();
                sorted.sort_unstable();
                assert!(sorted.iter().copied().eq(0..sorted.len() as u32));
                let mut places: Vec<_> =
                    made.index.iter().zip(rows).map(|(&k, &row)| (row.0, made.rank[k as usize], row.1)).collect();
                places.sort_unstable();
                places.dedup();
                places.into_iter().map(|(task, _, key)| (task, key)).collect::<Vec<_>>()
            };
            let mut turned = rows.clone();
            turned.reverse();
            prop_assert_eq!(ranked(&rows), ranked(&turned));
        }
    }

    #[test]
    fn long_keys_have_the_hash_of_their_bytes() {
        let text: Vec<u8> = (0..20_000u32).map(|i| (i * i % 251) as u8).collect();
        for n in [0, 2047, 2048, 2049, 2560, 5000, 20_000] {
            let announced = std::cell::Cell::new(0);
            let hash = hash_of(&text[..n], |later| announced.set(announced.get() + later.len()));
            assert_eq!(hash, xxh3_128(&text[..n]));
            assert_eq!(announced.get(), n.saturating_sub(2048));
        }
    }

    #[test]
    fn columns_must_have_a_key_a_row() {
        let tasks = Groups::from_ids(&[0, 0]).unwrap();
        assert!(number_keys(&[&[b"a"]], &tasks, Par::Serial, |_| ()).is_err());
        let none = Groups::from_ids(&[]).unwrap();
        assert_eq!(number_keys(&[&[], &[]], &none, Par::Serial, |_| ()).unwrap().rank, []);
        assert_eq!(number_keys(&[], &tasks, Par::Serial, |_| ()).unwrap().index, []);
    }
}

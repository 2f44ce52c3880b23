//! Columns of keys as dense numbers.
//!
//! Keys are those of a task: equal bytes in different tasks are different keys. Each task is hashed and looked up on its
//! own, so that its table and the keys it is compared with stay in the cache and every key is read from memory once. Tasks
//! that are too large for that are cut by the hash of their keys.

use std::borrow::Cow;

use rayon::prelude::*;
use xxhash_rust::xxh3::xxh3_128;

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
/// # Errors
/// [`Error::Length`] if a column has not one key a row, [`Error::TooLarge`] past 2^32 - 1 keys in all.
pub fn number_keys(columns: &[&[&[u8]]], tasks: &Groups, par: Par) -> Result<Keys> {
    number_with(columns, tasks, par, LARGE, xxh3_128)
}

/// Keys from which a task is cut, when there are threads to work on the parts.
const LARGE: usize = 1 << 16;
/// Parts of a large task.
const PARTS: usize = 256;

/// Items that can only be the same among themselves. Units of one task are in the order of their hashes.
struct Units<'a> {
    items: Cow<'a, [u32]>,
    offsets: Vec<usize>,
    /// By place in `items`; only of units that are parts of a task.
    hashes: Vec<u128>,
}

fn number_with(
    columns: &[&[&[u8]]],
    tasks: &Groups,
    par: Par,
    large: usize,
    hash: impl Fn(&[u8]) -> u128 + Sync,
) -> Result<Keys> {
    let rows = tasks.len();
    for column in columns {
        check_len("state", column.len(), rows, "the number of rows")?;
    }
    let items = rows * columns.len();
    if items as u64 >= MAX_ROWS {
        return Err(Error::TooLarge { arg: "state", limit: MAX_ROWS - 1, got: items as u64 });
    }
    let key = |item: u32| {
        let item = item as usize;
        if item < rows { columns[0][item] } else { columns[item / rows][item % rows] }
    };
    let units = match par {
        Par::Threads if (0..tasks.n_groups()).any(|t| tasks.rows(t).len() * columns.len() >= large) => {
            cut(tasks, columns.len(), large, |item| hash(key(item)))
        }
        _ => whole(tasks, columns.len()),
    };

    let pieces = match par {
        Par::Serial => vec![0, units.offsets.len() - 1],
        Par::Threads => balanced(&units.offsets, 8 * rayon::current_num_threads()),
    };
    // By unit: the first item of each item's key, and the distinct keys in order of hash and bytes.
    let mut firsts = vec![0u32; items];
    let bounds: Vec<usize> = pieces.iter().map(|&u| units.offsets[u]).collect();
    let mut work: Vec<(&mut [u32], Vec<u32>)> = Vec::with_capacity(pieces.len());
    let mut rest = firsts.as_mut_slice();
    for w in bounds.windows(2) {
        let (head, tail) = rest.split_at_mut(w[1] - w[0]);
        work.push((head, Vec::new()));
        rest = tail;
    }
    let each: Vec<usize> = (0..=work.len()).collect();
    for_pieces(par, &mut work, &each, |piece, part| {
        let [(firsts, ranked)] = part else { return };
        let (mut table, mut fresh) = (Table::default(), Vec::new());
        for unit in pieces[piece]..pieces[piece + 1] {
            let range = units.offsets[unit]..units.offsets[unit + 1];
            let here = &mut firsts[range.start - bounds[piece]..range.end - bounds[piece]];
            let known = units.hashes.get(range.clone());
            table.start(range.len());
            fresh.clear();
            for (k, (&item, out)) in units.items[range].iter().zip(here).enumerate() {
                let bytes = key(item);
                let h = known.map_or_else(|| hash(bytes), |known| known[k]);
                *out = table.first(h as u64, item, |other| key(other) == bytes);
                if *out == item {
                    fresh.push((h, item));
                }
            }
            fresh.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| key(a.1).cmp(key(b.1))));
            ranked.extend(fresh.iter().map(|&(_, item)| item));
        }
    });
    let ranked: Vec<u32> = work.into_iter().flat_map(|(_, ranked)| ranked).collect();

    // In the order of the items a first item comes before all others of its key.
    let mut index = vec![0u32; items];
    for (&item, &first) in units.items.iter().zip(&firsts) {
        index[item as usize] = first;
    }
    let mut n = 0u32;
    for item in 0..items {
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

/// One unit a task.
fn whole(tasks: &Groups, columns: usize) -> Units<'_> {
    if columns == 1 {
        let offsets = tasks.offsets().to_vec();
        return Units { items: Cow::Borrowed(tasks.order()), offsets, hashes: Vec::new() };
    }
    let offsets = tasks.offsets().iter().map(|o| o * columns).collect();
    let items = (0..tasks.n_groups()).flat_map(|t| of_task(tasks, columns, t)).collect();
    Units { items: Cow::Owned(items), offsets, hashes: Vec::new() }
}

/// The items of a task: its rows of one column after another.
fn of_task(tasks: &Groups, columns: usize, task: usize) -> impl Iterator<Item = u32> {
    let n = tasks.len() as u32;
    (0..columns as u32).flat_map(move |c| tasks.rows(task).iter().map(move |&row| c * n + row))
}

/// Tasks of at least `large` items as [`PARTS`] units by the leading bits of their hashes.
fn cut(tasks: &Groups, columns: usize, large: usize, hash: impl Fn(u32) -> u128 + Sync) -> Units<'_> {
    let (mut items, mut offsets) = (Vec::with_capacity(tasks.len() * columns), vec![0]);
    let mut hashes = Vec::with_capacity(items.capacity());
    for task in 0..tasks.n_groups() {
        let here: Vec<u32> = of_task(tasks, columns, task).collect();
        let hashed: Vec<u128> = here.par_iter().map(|&item| hash(item)).collect();
        if here.len() < large {
            items.extend(&here);
            hashes.extend(&hashed);
            offsets.push(items.len());
            continue;
        }
        let part = |h: u128| (h >> 120) as usize;
        let mut next = vec![0usize; PARTS + 1];
        for &h in &hashed {
            next[part(h) + 1] += 1;
        }
        for p in 0..PARTS {
            next[p + 1] += next[p];
        }
        let base = items.len();
        offsets.extend(next[1..].iter().map(|end| base + end));
        items.resize(base + here.len(), 0);
        hashes.resize(base + here.len(), 0);
        for (&item, &h) in here.iter().zip(&hashed) {
            let place = &mut next[part(h)];
            items[base + *place] = item;
            hashes[base + *place] = h;
            *place += 1;
        }
    }
    Units { items: Cow::Owned(items), offsets, hashes }
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
            let keys = number_keys(columns, &tasks, Par::Serial).unwrap();
            prop_assert_eq!(&keys.index, &expected);
            prop_assert_eq!(&threads(|| number_keys(columns, &tasks, Par::Threads)).unwrap(), &keys);
            let cut = threads(|| number_with(columns, &tasks, Par::Threads, 1, xxh3_128)).unwrap();
            prop_assert_eq!(&cut, &keys);
            // All keys have the hash 7, or one of four that differ in the leading bits.
            for weak in [|_: &[u8]| 7u128, |b: &[u8]| (b.len() as u128 % 4) << 125] {
                for (par, large) in [(Par::Serial, 1), (Par::Threads, 1), (Par::Threads, 1000)] {
                    let keys = threads(|| number_with(columns, &tasks, par, large, weak)).unwrap();
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
                let made = number_with(&[&keys], &tasks, Par::Serial, 1, hash).unwrap();
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
    fn columns_must_have_a_key_a_row() {
        let tasks = Groups::from_ids(&[0, 0]).unwrap();
        assert!(number_keys(&[&[b"a"]], &tasks, Par::Serial).is_err());
        let none = Groups::from_ids(&[]).unwrap();
        assert_eq!(number_keys(&[&[], &[]], &none, Par::Serial).unwrap().rank, []);
        assert_eq!(number_keys(&[], &tasks, Par::Serial).unwrap().index, []);
    }
}

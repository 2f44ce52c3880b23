//! The largest gains of all rows, and rollouts that fill up from below.

use crate::select::budget::sum;

/// Adds to `counts` how many gains of each row are among the `take` largest of all, and returns how many that were.
/// Rows end at `ends`; no gain in a row is above the one before.
pub(super) fn cut(gains: &[f64], ends: &[usize], place: &[i64], counts: &mut [i64], take: i64) -> i64 {
    let starts = std::iter::once(0).chain(ends.iter().copied());
    let rows = starts.zip(ends).map(|(start, &end)| &gains[start..end]);
    let take = usize::try_from(take).unwrap_or(0);
    if take >= gains.len() {
        for (count, row) in counts.iter_mut().zip(rows) {
            *count += row.len() as i64;
        }
        return gains.len() as i64;
    }
    if take == 0 {
        return 0;
    }
    let mut largest = gains.to_vec();
    let (_, &mut last, _) = largest.select_nth_unstable_by(take - 1, |a, b| b.total_cmp(a));
    let mut left = take as i64;
    let equal: Vec<i64> = counts
        .iter_mut()
        .zip(rows)
        .map(|(count, row)| {
            let above = row.partition_point(|&gain| gain > last);
            *count += above as i64;
            left -= above as i64;
            row.partition_point(|&gain| gain >= last).saturating_sub(above) as i64
        })
        .collect();
    fill(counts, &equal, place, left);
    take as i64
}

/// Hands out `left` rollouts one after another to who has fewest, then to the first by place; `room` is how many each
/// can take. Returns how many that were.
pub(super) fn fill(counts: &mut [i64], room: &[i64], place: &[i64], left: i64) -> i64 {
    let total = sum(room);
    if total <= i128::from(left) {
        for (count, room) in counts.iter_mut().zip(room) {
            *count += room;
        }
        return i64::try_from(total).unwrap_or(left);
    }
    let takes = |count: i64, room: i64, level: i64| (level - count).clamp(0, room);
    let (mut under, mut over) =
        (0, counts.iter().copied().max().unwrap_or(0).saturating_add(left).saturating_add(1));
    while over - under > 1 {
        let level = under + (over - under) / 2;
        let taken: i128 = counts.iter().zip(room).map(|(&n, &room)| i128::from(takes(n, room, level))).sum();
        if taken <= i128::from(left) {
            under = level;
        } else {
            over = level;
        }
    }
    let mut rest = left;
    let mut next = Vec::new();
    for (i, (count, &room)) in counts.iter_mut().zip(room).enumerate() {
        let taken = takes(*count, room, under);
        if taken < room && *count + taken == under {
            next.push((place.get(i).copied().unwrap_or(0), i));
        }
        *count += taken;
        rest -= taken;
    }
    next.sort_unstable();
    for &(_, i) in next.iter().take(usize::try_from(rest).unwrap_or(0)) {
        counts[i] += 1;
    }
    left
}

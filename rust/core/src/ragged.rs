//! Rows of unequal length: offsets, padding and its inverse.

use crate::error::{Error, Result, check_len};
use crate::par::{Par, balanced, for_pieces};

/// Checks offsets: first 0, never decreasing, last equal to `total`.
///
/// # Errors
/// [`Error::Structure`] naming the first offset that is wrong.
pub fn check_offsets(arg: &'static str, offsets: &[i64], total: usize) -> Result<()> {
    let fail = |reason: String| Err(Error::Structure { arg, reason });
    match offsets {
        [] => return fail("must have at least one element (0)".into()),
        [first, ..] if *first != 0 => return fail(format!("must start at 0, got {first}")),
        [.., last] if *last != total as i64 => {
            return fail(format!("must end at {total} (= len(values)), got {last}"));
        }
        _ => {}
    }
    match offsets.windows(2).position(|w| w[1] < w[0]) {
        Some(i) => {
            fail(format!("must not decrease, got {} after {} at index {}", offsets[i + 1], offsets[i], i + 1))
        }
        None => Ok(()),
    }
}

/// Offsets from row lengths.
///
/// # Errors
/// [`Error::Range`] for a negative length or one over `limit` (`limit_name` says what that is).
pub fn offsets_from_lengths(lengths: &[i64], limit: i64, limit_name: &str) -> Result<Vec<i64>> {
    let mut offsets = Vec::with_capacity(lengths.len() + 1);
    let mut total = 0i64;
    offsets.push(0);
    for (i, &n) in lengths.iter().enumerate() {
        if n < 0 || n > limit {
            let expected = if limit == i64::MAX {
                "not negative".to_string()
            } else {
                format!("between 0 and {limit} (= {limit_name})")
            };
            return Err(Error::Range { arg: "lengths", expected, got: format!("{n} at index {i}") });
        }
        total = total.checked_add(n).ok_or(Error::TooLarge {
            arg: "lengths",
            limit: i64::MAX as u64,
            got: u64::MAX,
        })?;
        offsets.push(total);
    }
    Ok(offsets)
}

/// Copies the first `offsets[i + 1] - offsets[i]` columns of each row of `x` (`width` columns) one after another.
///
/// # Errors
/// [`Error::Length`] if `x` or `out` does not have the size that `offsets` and `width` say.
pub fn pack<T: Copy + Send + Sync>(
    x: &[T],
    width: usize,
    offsets: &[i64],
    out: &mut [T],
    par: Par,
) -> Result<()> {
    let (rows, ends, size) = shape(offsets, width)?;
    check_len("x", x.len(), size, "rows * width")?;
    check_len("out", out.len(), ends[rows], "the sum of lengths")?;
    let bounds = pieces(&ends, par);
    let cuts: Vec<usize> = bounds.iter().map(|&r| ends[r]).collect();
    for_pieces(par, out, &cuts, |k, part| {
        for row in bounds[k]..bounds[k + 1] {
            let (from, to) = (ends[row] - cuts[k], ends[row + 1] - cuts[k]);
            part[from..to].copy_from_slice(&x[row * width..row * width + (to - from)]);
        }
    });
    Ok(())
}

/// Writes packed rows into `out` (`width` columns a row); the rest of each row becomes `fill`.
///
/// # Errors
/// [`Error::Length`] for a size that does not fit, [`Error::Range`] if a row is longer than `width`.
pub fn unpack<T: bytemuck::Pod + Send + Sync>(
    values: &[T],
    offsets: &[i64],
    width: usize,
    fill: T,
    out: &mut [T],
    par: Par,
) -> Result<()> {
    let (rows, ends, size) = shape(offsets, width)?;
    check_len("values", values.len(), ends[rows], "offsets[-1]")?;
    check_len("out", out.len(), size, "rows * width")?;
    // The work of a row is its width, whatever its length.
    let starts: Vec<usize> = (0..=rows).map(|r| r * width).collect();
    let bounds = pieces(&starts, par);
    let cuts: Vec<usize> = bounds.iter().map(|&r| r * width).collect();
    for_pieces(par, out, &cuts, |k, part| {
        for row in bounds[k]..bounds[k + 1] {
            let line = &mut part[row * width - cuts[k]..(row + 1) * width - cuts[k]];
            let (head, tail) = line.split_at_mut(ends[row + 1] - ends[row]);
            head.copy_from_slice(&values[ends[row]..ends[row + 1]]);
            fill_with(tail, fill);
        }
    });
    Ok(())
}

/// `memset` where the bytes of `fill` are all equal: it is faster than a loop on long rows.
fn fill_with<T: bytemuck::Pod>(out: &mut [T], fill: T) {
    match bytemuck::bytes_of(&fill) {
        [first, rest @ ..] if rest.iter().all(|b| b == first) => bytemuck::cast_slice_mut(out).fill(*first),
        _ => out.fill(fill),
    }
}

/// Offsets of the rows and column of each kept element, for a mask of `width` columns (nonzero keeps).
///
/// # Errors
/// [`Error::Length`] if the mask does not divide into rows of `width`.
pub fn mask_positions(mask: &[u8], rows: usize, width: usize) -> Result<(Vec<i64>, Vec<i64>)> {
    check_len("mask", mask.len(), area(rows, width)?, "rows * width")?;
    let mut offsets = Vec::with_capacity(rows + 1);
    let mut positions = Vec::new();
    offsets.push(0);
    for row in 0..rows {
        let line = &mask[row * width..(row + 1) * width];
        positions.extend(line.iter().enumerate().filter(|(_, m)| **m != 0).map(|(column, _)| column as i64));
        offsets.push(positions.len() as i64);
    }
    Ok((offsets, positions))
}

fn area(rows: usize, width: usize) -> Result<usize> {
    let got = (rows as u64).saturating_mul(width as u64);
    rows.checked_mul(width).ok_or(Error::TooLarge { arg: "width", limit: usize::MAX as u64, got })
}

/// Rows, where each ends among the values, and the size of the padded array.
fn shape(offsets: &[i64], width: usize) -> Result<(usize, Vec<usize>, usize)> {
    let total = offsets.last().copied().unwrap_or(0).max(0);
    check_offsets("offsets", offsets, total as usize)?;
    if let Some(row) = offsets.windows(2).position(|w| (w[1] - w[0]) as usize > width) {
        let got = format!("{} at row {row}", offsets[row + 1] - offsets[row]);
        return Err(Error::Range { arg: "lengths", expected: format!("at most {width} (= width)"), got });
    }
    let rows = offsets.len() - 1;
    Ok((rows, offsets.iter().map(|&o| o as usize).collect(), area(rows, width)?))
}

fn pieces(ends: &[usize], par: Par) -> Vec<usize> {
    match par {
        Par::Serial => vec![0, ends.len() - 1],
        Par::Threads => balanced(ends, 4 * rayon::current_num_threads()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pack_and_unpack_are_inverse() {
        let x = [1, 2, 9, 3, 9, 9, 9, 9, 9, 4, 5, 6];
        let offsets = [0i64, 2, 3, 3, 6];
        for par in [Par::Serial, Par::Threads] {
            let mut packed = [0; 6];
            pack(&x, 3, &offsets, &mut packed, par).unwrap();
            assert_eq!(packed, [1, 2, 3, 4, 5, 6]);
            let mut back = [0; 12];
            unpack(&packed, &offsets, 3, 9, &mut back, par).unwrap();
            assert_eq!(back, x);
        }
    }

    #[test]
    fn a_row_longer_than_the_width_is_an_error() {
        let mut out = [0; 2];
        let e = unpack(&[1, 2, 3], &[0, 3], 2, 0, &mut out, Par::Serial).unwrap_err();
        assert_eq!(e.to_string(), "'lengths' must be at most 2 (= width), got 3 at row 0");
    }

    #[test]
    fn offsets_are_checked() {
        assert!(check_offsets("offsets", &[0, 2, 1, 3], 3).is_err());
        assert!(check_offsets("offsets", &[1, 3], 3).is_err());
        assert!(check_offsets("offsets", &[0, 2], 3).is_err());
        assert!(check_offsets("offsets", &[], 0).is_err());
        assert!(check_offsets("offsets", &[0], 0).is_ok());
        assert!(offsets_from_lengths(&[1, -1], i64::MAX, "").is_err());
    }

    #[test]
    fn masks_keep_their_columns() {
        let (offsets, positions) = mask_positions(&[1, 0, 2, 0, 0, 0], 2, 3).unwrap();
        assert_eq!((offsets, positions), (vec![0, 2, 2], vec![0, 2]));
    }
}

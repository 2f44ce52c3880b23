//! The place of each row in its group.

use rayon::prelude::*;

use super::slots::for_slots;
use crate::error::{Error, Result, check_len};
use crate::groups::Groups;
use crate::par::Par;
use crate::reduce::is_valid;

/// Place, from 0, of each row among those of its group that are `seen`, by ascending key; -1 for the others. Equal keys
/// are in the order of `preference` (different numbers below 2^32), or without it of the rows. Without groups, all rows
/// are one.
///
/// # Errors
/// [`Error::Length`] for wrong lengths, [`Error::Range`] for a preference that is no number below 2^32.
pub fn places(
    groups: Option<&Groups>,
    key: &[f64],
    seen: Option<&[u8]>,
    preference: Option<&[i64]>,
    out: &mut [i64],
    par: Par,
) -> Result<()> {
    check(groups, key.len(), seen, preference)?;
    check_len("out", out.len(), key.len(), "len(groups)")?;
    for_slots(groups, out, par, |rows, places, keyed: &mut Vec<u128>| {
        keyed.clear();
        keyed.extend(rows.iter().enumerate().filter(|&(_, &row)| is_valid(seen, row as usize)).map(
            |(slot, &row)| {
                // One number: key, then preference, then where it came from. Sorting it is a comparison each.
                let first = u128::from(ordered(key[row as usize])) << 64;
                let then = preference.map_or(slot, |p| p[row as usize] as usize);
                first | (then as u128) << 32 | slot as u128
            },
        ));
        if groups.is_none() && par == Par::Threads {
            keyed.par_sort_unstable();
        } else {
            keyed.sort_unstable();
        }
        places.fill(-1);
        for (place, one) in keyed.iter().enumerate() {
            places[*one as u32 as usize] = place as i64;
        }
    });
    Ok(())
}

/// Bits in the order of the numbers; zeros of either sign are one.
fn ordered(x: f64) -> u64 {
    let bits = (x + 0.0).to_bits();
    bits ^ (((bits as i64) >> 63) as u64 | 1 << 63)
}

pub(super) fn check(
    groups: Option<&Groups>,
    n: usize,
    seen: Option<&[u8]>,
    preference: Option<&[i64]>,
) -> Result<()> {
    if let Some(groups) = groups {
        check_len("x", n, groups.len(), "len(groups)")?;
    }
    if n as u64 >= crate::groups::MAX_ROWS {
        return Err(Error::TooLarge { arg: "x", limit: crate::groups::MAX_ROWS - 1, got: n as u64 });
    }
    seen.map_or(Ok(()), |seen| check_len("valid", seen.len(), n, "len(groups)"))?;
    let Some(preference) = preference else { return Ok(()) };
    check_len("preference", preference.len(), n, "len(groups)")?;
    match preference.iter().find(|&&p| u32::try_from(p).is_err()) {
        None => Ok(()),
        Some(p) => {
            let expected = "between 0 and 2**32 - 1".into();
            Err(Error::Range { arg: "preference", expected, got: p.to_string() })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(ids: Option<&[i64]>, key: &[f64], seen: Option<&[u8]>, preference: Option<&[i64]>) -> Vec<i64> {
        let groups = ids.map(|ids| Groups::from_ids(ids).unwrap());
        let mut out = vec![9; key.len()];
        places(groups.as_ref(), key, seen, preference, &mut out, Par::Serial).unwrap();
        out
    }

    #[test]
    fn key_then_preference_then_row() {
        let key = [2.0, -1.0, 2.0, f64::NEG_INFINITY, 0.0, -0.0];
        assert_eq!(call(None, &key, None, None), [4, 1, 5, 0, 2, 3]);
        assert_eq!(call(None, &key, None, Some(&[9, 8, 7, 6, 5, 4])), [5, 1, 4, 0, 3, 2]);
        assert_eq!(call(Some(&[7, 3, 7, 3, 7, 3]), &key, None, None), [1, 1, 2, 0, 0, 2]);
        assert_eq!(
            call(Some(&[7, 3, 7, 3, 7, 3]), &key, Some(&[1, 1, 1, 0, 0, 1]), None),
            [0, 0, 1, -1, -1, 1]
        );
        assert_eq!(call(Some(&[]), &[], None, None), [0i64; 0]);
        assert_eq!(call(None, &[], None, None), [0i64; 0]);
    }

    #[test]
    fn bits_are_in_order() {
        let x = [f64::NEG_INFINITY, -1.5, -f64::MIN_POSITIVE, 0.0, 5e-324, 1.0, f64::MAX, f64::INFINITY];
        assert!(x.windows(2).all(|w| ordered(w[0]) < ordered(w[1])));
        assert_eq!(ordered(0.0), ordered(-0.0));
    }

    #[test]
    fn what_does_not_fit_is_an_error() {
        let mut out = [0; 2];
        let mut bad = |seen: Option<&[u8]>, p: Option<&[i64]>| {
            places(None, &[1.0, 2.0], seen, p, &mut out, Par::Serial).unwrap_err().to_string()
        };
        assert!(bad(Some(&[1]), None).starts_with("'valid' must have length 2"));
        assert!(bad(None, Some(&[1])).starts_with("'preference' must have length 2"));
        assert!(
            bad(None, Some(&[1, -1])).starts_with("'preference' must be between 0 and 2**32 - 1, got -1")
        );
    }
}

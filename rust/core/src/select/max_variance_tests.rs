use proptest::prelude::*;

use super::*;

fn call(
    ids: Option<&[i64]>,
    x: &[f64],
    seen: Option<&[u8]>,
    preference: Option<&[i64]>,
    keep: usize,
) -> Vec<usize> {
    let groups = ids.map(|ids| Groups::from_ids(ids).unwrap());
    let mut out = vec![true; x.len()];
    max_variance(groups.as_ref(), x, seen, preference, keep, &mut out, Par::Serial).unwrap();
    out.iter().enumerate().filter(|&(_, &kept)| kept).map(|(row, _)| row).collect()
}

#[test]
fn by_hand() {
    let x = [0.1, 0.9, 0.4, 0.7, 0.0, 0.35, 0.6, 0.2];
    assert_eq!(call(None, &x, None, None, 4), [0, 1, 3, 4]);
    assert_eq!(call(None, &x, None, None, 8), [0, 1, 2, 3, 4, 5, 6, 7]);
    assert_eq!(call(None, &x, None, None, 1), [4]);
    // 0, 0, 1 and 0, 1, 1 are tied; the class of equal values is taken in order of preference.
    let x = [1.0, 1.0, 0.0, 0.0, 1.0, 0.0];
    assert_eq!(call(None, &x, None, None, 3), [0, 2, 3]);
    assert_eq!(call(None, &x, None, Some(&[5, 4, 3, 2, 1, 0]), 3), [3, 4, 5]);
    assert_eq!(call(None, &[0.5; 4], None, Some(&[3, 0, 2, 1]), 2), [1, 3]);
    // Both ends reach into the zeros.
    assert_eq!(call(None, &[0.0, 9.0, 0.0, 0.0, -9.0, 0.0], None, None, 4), [0, 1, 2, 4]);
    assert_eq!(call(Some(&[7, 3, 7, 3, 7]), &[0.0, 1.0, 5.0, 2.0, 4.0], None, None, 2), [0, 1, 2, 3]);
    assert_eq!(
        call(Some(&[7, 3, 7, 3, 7]), &[0.0, 1.0, 5.0, 2.0, 4.0], Some(&[1, 0, 0, 1, 1]), None, 2),
        [0, 3, 4]
    );
}

#[test]
fn huge_and_tiny_spreads() {
    let (huge, tiny) = (f64::MAX, f64::from_bits(1));
    assert_eq!(call(None, &[huge, -huge, 0.0, huge], None, None, 2), [0, 1]);
    assert_eq!(call(None, &[huge, -huge, 0.0, huge, -huge], None, None, 4), [0, 1, 3, 4]);
    assert_eq!(call(None, &[0.0, tiny, 0.0, 0.0, tiny], None, None, 3), [0, 1, 2]);
    // Only what is left of the sum after the huge ones cancel decides: that of -MAX, -1, MAX is larger than that of
    // -MAX, 1 + ulp, MAX.
    assert_eq!(call(None, &[huge, -huge, -1.0, 1.0 + f64::EPSILON], None, None, 3), [0, 1, 3]);
    assert_eq!(call(None, &[huge, -huge, -1.0 - f64::EPSILON, 1.0], None, None, 3), [0, 1, 2]);
    assert_eq!(call(None, &[huge, -huge, -1.0, 1.0], None, None, 3), [0, 1, 2]);
}

#[test]
fn many_undecided_steps_end() {
    // Two outliers and values that doubles hardly tell apart beside them.
    let mut x: Vec<f64> = (0..20_000).map(|i| f64::from(i % 77) * 1e-300).collect();
    x.extend([1.0, -1.0]);
    assert_eq!(call(None, &x, None, None, 10_000).len(), 10_000);
}

proptest! {
    /// Every subset, in whole numbers.
    #[test]
    fn brute_force(x in prop::collection::vec(-20i64..20, 1..11), keep in 1usize..10) {
        let values: Vec<f64> = x.iter().map(|&v| v as f64 / 4.0).collect();
        let kept = call(None, &values, None, None, keep);
        let keep = keep.min(x.len());
        prop_assert_eq!(kept.len(), keep);
        let variance = |rows: &mut dyn Iterator<Item = usize>| {
            let (sum, squares) = rows.fold((0, 0), |(s, q), i| (s + x[i], q + x[i] * x[i]));
            keep as i64 * squares - sum * sum
        };
        let best = (0u32..1 << x.len()).filter(|bits| bits.count_ones() as usize == keep)
            .map(|bits| variance(&mut (0..x.len()).filter(|i| bits >> i & 1 == 1))).max();
        prop_assert_eq!(best, Some(variance(&mut kept.iter().copied())));
    }

    /// The sign of the slope from doubles is that without rounding.
    #[test]
    fn slopes_without_rounding(mut x in prop::collection::vec(-1.0f64..1.0, 2..200), share in 0.01f64..1.0, e in -9i32..9) {
        x.iter_mut().for_each(|v| *v = *v * 10f64.powi(e) + 1e3);
        sort_values(&mut x);
        let keep = ((x.len() as f64 * share) as usize).clamp(1, x.len());
        let slow = (0..keep).take_while(|&k| rises(&x, keep, k)).count();
        let fast = from_top(&x, keep);
        prop_assert!(fast <= slow);
        prop_assert!((fast..slow).all(|k| x[x.len() - 1 - k] == x[keep - 1 - k]));
    }
}

use proptest::prelude::*;

use super::*;
use crate::select::tokens_count::{BINS, Round, counts};
use crate::select::tokens_rows::top_of_rows;
use crate::select::tokens_score::{Plain, Product, RowProduct};

/// The k-th highest of those that are trained, by sorting.
fn by_sorting(x: &[f32], mask: &[u8], want: Want) -> (Vec<u8>, u64) {
    let mut seen: Vec<f32> = x.iter().zip(mask).filter(|&(_, &m)| m != 0).map(|(&x, _)| x).collect();
    seen.sort_by(|a, b| b.total_cmp(a));
    let k = want.of(seen.len() as u64) as usize;
    let chosen = |(&x, &m): (&f32, &u8)| u8::from(m != 0 && k > 0 && x >= seen[k - 1]);
    (x.iter().zip(mask).map(chosen).collect(), k as u64)
}

/// Numbers that are hard for a sample.
fn shapes(n: usize) -> Vec<(&'static str, Vec<f32>)> {
    let noise = |i: usize| (i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40) as f32;
    vec![
        ("noise", (0..n).map(noise).collect()),
        ("equal", vec![1.5; n]),
        ("rising", (0..n).map(|i| i as f32).collect()),
        ("falling", (0..n).map(|i| -(i as f32)).collect()),
        ("two values", (0..n).map(|i| (i % 3 == 0) as u8 as f32).collect()),
        ("mostly zero", (0..n).map(|i| if i % 5 == 0 { noise(i) } else { -0.0 }).collect()),
        ("denormal", (0..n).map(|i| f32::from_bits((noise(i) as u32) & 0xffff)).collect()),
        ("infinite", (0..n).map(|i| if i % 2 == 0 { f32::INFINITY } else { f32::NEG_INFINITY }).collect()),
        ("large first", (0..n).map(|i| if i < n / 4 { 1e30 + noise(i) * 1e25 } else { noise(i) }).collect()),
        ("few distinct", (0..n).map(|i| (noise(i) as u32 % 7) as f32 - 3.0).collect()),
    ]
}

#[test]
fn large_batches_of_any_shape() {
    let n = BLOCK + 9077;
    let layout = Layout::padded(1, n, None).unwrap();
    let mask: Vec<u8> = (0..n).map(|i| u8::from(i * 7 % 11 > 2)).collect();
    let wants = [
        Want::Share(0.2, 0),
        Want::Share(0.0002, 3),
        Want::Share(1.0, 0),
        Want::Count(1),
        Want::Count(50_000),
    ];
    for (name, x) in shapes(n) {
        for mask in [None, Some(&mask[..])] {
            let field = Field::new(&layout, mask).unwrap();
            for (turn, want) in wants.into_iter().enumerate() {
                let (expected, k) = by_sorting(&x, mask.unwrap_or(&vec![1; n]), want);
                let par = if turn % 2 == 0 { Par::Serial } else { Par::Threads };
                let mut out = vec![7; n];
                let scores = Plain { x: &x, lowest: false };
                let found = top(field, &scores, want, None, &mut out, par).unwrap();
                assert!(out == expected, "{name} {want:?}");
                assert_eq!(found.kept, out.iter().map(|&b| u64::from(b)).sum::<u64>());
                assert!(threshold_by_digits(field, &scores, k, par) == found.threshold);
                let words = [5];
                let hashes = Hashes { layout: &layout, words: &words, positions: None };
                let exact = top(field, &scores, want, Some(&hashes), &mut out, par).unwrap();
                assert_eq!((exact.kept, out.iter().map(|&b| u64::from(b)).sum::<u64>()), (k, k));
                assert!(out.iter().zip(&expected).all(|(a, b)| a <= b));
            }
        }
    }
}

#[test]
fn a_bracket_that_misses_changes_nothing() {
    // Only where the sample looks there are large numbers, or only where it does not.
    let n = 300_000;
    let layout = Layout::padded(1, n, None).unwrap();
    let field = Field::new(&layout, None).unwrap();
    for turn in 0..2 {
        let stride = n / (1 << 15);
        let mut x: Vec<f32> = (0..n).map(|i| (i * 7919 % 1000) as f32).collect();
        for j in 0..1usize << 15 {
            let at = j * stride + j.wrapping_mul(0x9E37_79B9) / 64 % stride;
            x[at] = if turn == 0 { 1e9 + j as f32 } else { -1e9 - j as f32 };
        }
        for want in [Want::Share(0.2, 0), Want::Share(0.5, 0), Want::Share(0.95, 0), Want::Count(3)] {
            let mut out = vec![0; n];
            top(field, &Plain { x: &x, lowest: false }, want, None, &mut out, Par::Serial).unwrap();
            assert!(out == by_sorting(&x, &vec![1; n], want).0);
        }
    }
}

proptest! {
    #[test]
    fn rows_and_padding(rows in prop::collection::vec((0usize..6, prop::collection::vec((-3i8..4, any::<bool>()), 6)), 1..9),
                        share in 0.0f64..=1.0, least in 0u64..3) {
        let lengths: Vec<i64> = rows.iter().map(|r| r.0 as i64).collect();
        let layout = Layout::padded(rows.len(), 6, Some(&lengths)).unwrap();
        let x: Vec<f32> = rows.iter().flat_map(|r| r.1.iter().map(|t| f32::from(t.0))).collect();
        let mask: Vec<u8> = rows.iter().flat_map(|r| r.1.iter().map(|t| u8::from(t.1))).collect();
        let inside: Vec<u8> = (0..x.len()).map(|i| u8::from(i % 6 < rows[i / 6].0 && mask[i] != 0)).collect();
        let field = Field::new(&layout, Some(&mask)).unwrap();
        let want = Want::Share(share, least);
        let mut out = vec![9; x.len()];
        let scores = Plain { x: &x, lowest: false };
        top(field, &scores, want, None, &mut out, Par::Serial).unwrap();
        prop_assert_eq!(&out, &by_sorting(&x, &inside, want).0);
        let words: Vec<u64> = (0..rows.len() as u64).collect();
        let hashes = Hashes { layout: &layout, words: &words, positions: None };
        for ties in [None, Some(&hashes)] {
            let found = top_of_rows(field, &scores, want, ties, &mut out, Par::Serial).unwrap();
            for (i, one) in found.iter().enumerate() {
                let own = 6 * i..6 * i + 6;
                let (expected, k) = by_sorting(&x[own.clone()], &inside[own.clone()], want);
                prop_assert_eq!(one.total, inside[own.clone()].iter().map(|&b| u64::from(b)).sum::<u64>());
                if ties.is_none() {
                    prop_assert_eq!(&out[own], &expected[..]);
                } else {
                    prop_assert_eq!(one.kept, k);
                    prop_assert_eq!(out[own].iter().map(|&b| u64::from(b)).sum::<u64>(), k);
                }
            }
        }
        let a: Vec<f32> = (0..rows.len()).map(|i| i as f32 - 2.0).collect();
        let wide: Vec<f32> = (0..x.len()).map(|i| a[i / 6]).collect();
        let mut other = vec![0; x.len()];
        let found = top(field, &RowProduct { a: &a, x: &x }, want, None, &mut out, Par::Serial).unwrap();
        prop_assert_eq!(found, top(field, &Product { a: &wide, x: &x }, want, None, &mut other, Par::Serial).unwrap());
        prop_assert_eq!(out, other);
    }
}

#[test]
fn nan_is_named_and_gaps_may_hold_it() {
    let layout = Layout::packed(&[0, 2, 5]).unwrap();
    let x = [1.0, 2.0, 3.0, f32::NAN, 4.0];
    let mut out = vec![0; 5];
    let want = Want::Share(0.5, 0);
    let field = Field::new(&layout, None).unwrap();
    let told = "'x' must not be NaN at trained tokens, got NaN at row 1, position 1";
    let scores = Plain { x: &x, lowest: false };
    assert_eq!(top(field, &scores, want, None, &mut out, Par::Serial).unwrap_err().to_string(), told);
    assert_eq!(top_of_rows(field, &scores, want, None, &mut out, Par::Serial).unwrap_err().to_string(), told);
    let first = Round { number: 0, prefix: 0 };
    assert_eq!(counts(field, &scores, first, Par::Serial).unwrap_err().to_string(), told);
    let mask = [1, 1, 1, 0, 1];
    let field = Field::new(&layout, Some(&mask)).unwrap();
    assert_eq!(top(field, &scores, want, None, &mut out, Par::Serial).unwrap().total, 4);
    assert_eq!(counts(field, &scores, first, Par::Serial).unwrap().len(), BINS);
    let (a, x) = ([0.0f32; 5], [f32::INFINITY; 5]);
    let e = top(field, &Product { a: &a, x: &x }, want, None, &mut out, Par::Serial).unwrap_err();
    assert!(e.to_string().contains("is 0 times infinity, which is NaN, at row 0, position 0"));
}

#[test]
fn shares_of_whole_products() {
    assert_eq!(Want::Share(0.3, 0).of(10), 3);
    assert_eq!(Want::Share(0.7, 0).of(10), 7);
    assert_eq!(Want::Share(0.29, 0).of(100), 29);
    assert_eq!(Want::Share(0.2, 4).of(10), 4);
    assert_eq!(Want::Share(0.2, 40).of(10), 10);
    assert_eq!(Want::Count(11).of(10), 10);
}

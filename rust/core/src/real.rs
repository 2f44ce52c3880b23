//! The two element types of the core; everything is accumulated in f64.

/// f32 or f64.
pub trait Real: Copy + Send + Sync + PartialEq + 'static {
    /// Exact widening.
    fn wide(self) -> f64;
    /// Rounding to nearest.
    fn narrow(x: f64) -> Self;
}

impl Real for f32 {
    fn wide(self) -> f64 {
        f64::from(self)
    }
    fn narrow(x: f64) -> Self {
        x as f32
    }
}

impl Real for f64 {
    fn wide(self) -> f64 {
        self
    }
    fn narrow(x: f64) -> Self {
        x
    }
}

/// bfloat16 is the upper half of a float32.
#[must_use]
pub fn widen_bf16(bits: &[u16]) -> Vec<f32> {
    bits.iter().map(|&b| f32::from_bits(u32::from(b) << 16)).collect()
}

/// Sorts by value, so that a sum over the result does not depend on the order in which the values came.
///
/// The usual group has 4 to 16 members; for these a sorting network has no branch to mispredict. Negative zero must
/// have been turned into zero (`x + 0.0`), since the network takes the two for equal. With a NaN among the values the
/// order is unspecified.
pub fn sort_values(x: &mut [f64]) {
    match x.len() {
        0 | 1 => {}
        2..=4 => sort_network(x, [f64::INFINITY; 4], &NETWORK_4),
        5..=8 => sort_network(x, [f64::INFINITY; 8], &NETWORK_8),
        9..=16 => sort_network(x, [f64::INFINITY; 16], &NETWORK_16),
        _ => x.sort_unstable_by(f64::total_cmp),
    }
}

#[inline(always)]
fn sort_network<const N: usize, const M: usize>(x: &mut [f64], mut lanes: [f64; N], network: &[(u8, u8); M]) {
    lanes[..x.len()].copy_from_slice(x);
    for &(i, j) in network {
        let (a, b) = (lanes[i as usize], lanes[j as usize]);
        (lanes[i as usize], lanes[j as usize]) = if b < a { (b, a) } else { (a, b) };
    }
    x.copy_from_slice(&lanes[..x.len()]);
}

const NETWORK_4: [(u8, u8); 5] = [(0, 1), (2, 3), (0, 2), (1, 3), (1, 2)];
const NETWORK_8: [(u8, u8); 19] = batcher::<8, 19>();
const NETWORK_16: [(u8, u8); 63] = batcher::<16, 63>();

/// Batcher's odd-even merge sort for `n` = a power of two (Knuth, TAOCP 5.2.2, algorithm M).
const fn batcher<const N: usize, const M: usize>() -> [(u8, u8); M] {
    let mut pairs = [(0, 0); M];
    let (mut count, mut p) = (0, N / 2);
    while p > 0 {
        let (mut q, mut r, mut d) = (N / 2, 0, p);
        loop {
            let mut i = 0;
            while i < N - d {
                if i & p == r {
                    pairs[count] = (i as u8, (i + d) as u8);
                    count += 1;
                }
                i += 1;
            }
            if q == p {
                break;
            }
            (d, q, r) = (q - p, q / 2, p);
        }
        p /= 2;
    }
    assert!(count == M);
    pairs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bf16_is_exact() {
        assert_eq!(
            widen_bf16(&[0x3f80, 0xc000, 0x7f80]),
            vec![1.0, -2.0, f32::INFINITY]
        );
    }

    /// A network that sorts every 0/1 input sorts everything.
    #[test]
    fn zero_one_principle() {
        for bits in 0u32..1 << 16 {
            for n in [4, 8, 16] {
                let mut x: Vec<f64> = (0..n).map(|i| f64::from(bits >> i & 1)).collect();
                sort_values(&mut x);
                assert!(x.is_sorted());
            }
        }
    }

    #[test]
    fn networks_sort() {
        for n in 0..40usize {
            for turn in 1..50 {
                let mut x: Vec<f64> = (0..n).map(|i| ((i * 7919 * turn) % 31) as f64 - 15.0).collect();
                let mut y = x.clone();
                sort_values(&mut x);
                y.sort_by(f64::total_cmp);
                assert_eq!(x, y);
            }
        }
    }
}

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
pub fn sort_values(x: &mut [f64]) {
    if x.len() <= 20 {
        // Insertion sort: the usual group has 4 to 16 members.
        for i in 1..x.len() {
            let v = x[i];
            let mut k = i;
            while k > 0 && x[k - 1].total_cmp(&v).is_gt() {
                x[k] = x[k - 1];
                k -= 1;
            }
            x[k] = v;
        }
    } else {
        x.sort_unstable_by(f64::total_cmp);
    }
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

    #[test]
    fn both_sorts_agree() {
        for n in [0usize, 1, 5, 20, 21, 100] {
            let mut x: Vec<f64> = (0..n).map(|i| ((i * 7919) % 31) as f64 - 15.0).collect();
            let mut y = x.clone();
            sort_values(&mut x);
            y.sort_by(f64::total_cmp);
            assert_eq!(x, y);
        }
    }
}

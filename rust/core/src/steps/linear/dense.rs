//! The states that are left as a dense matrix.

use super::Linear;

/// States that are taken out at a time, so that a row is read and written once for all of them.
const BLOCK: usize = 16;
/// And in one pass over it.
const WIDE: usize = 4;

impl Linear {
    /// Solves for the states of `core`, the last one taken out first.
    pub(super) fn dense(&mut self, core: &[u32]) {
        let m = core.len();
        for (i, &u) in core.iter().enumerate() {
            self.slot[u as usize] = i as u32;
        }
        let mut a = vec![0.0; m * m];
        for (row, &u) in a.chunks_exact_mut(m.max(1)).zip(core) {
            for &(j, share) in self.out[u as usize].iter().filter(|x| !self.gone[x.0 as usize] && x.0 != u) {
                row[self.slot[j as usize] as usize] += share;
            }
        }
        let mut high = m;
        while high > 0 {
            let low = high.saturating_sub(BLOCK);
            let (above, block) = a.split_at_mut(low * m);
            for k in (low..high).rev() {
                let (others, row) = block.split_at_mut((k - low) * m);
                let (at, row) = (core[k] as usize, &row[..k]);
                self.divisor[at] = self.leave[at] + row.iter().sum::<f64>();
                for (&u, other) in core[low..k].iter().zip(others.chunks_exact_mut(m)) {
                    let share = self.pass(core[k], u, other[k]);
                    // What comes back stays, which is no way on.
                    add([share], [row], &mut other[..k]);
                }
            }
            for (&u, other) in core[..low].iter().zip(above.chunks_exact_mut(m)) {
                let mut shares = [0.0; BLOCK];
                for k in (low..high).rev() {
                    let share = self.pass(core[k], u, other[k]);
                    let row = &block[(k - low) * m..];
                    add([share], [&row[low..k]], &mut other[low..k]);
                    shares[k - low] = share;
                }
                let rows = |k: usize| &block[k.min(high - low - 1) * m..][..low];
                for k in (0..high - low).step_by(WIDE) {
                    let four = [0, 1, 2, 3].map(|i| shares[k + i]);
                    add(four, [0, 1, 2, 3].map(|i| rows(k + i)), &mut other[..low]);
                }
            }
            high = low;
        }
        for k in 0..m {
            let row = a[k * m..k * m + k].iter().zip(core);
            let sum = row.fold(self.constant[core[k] as usize], |s, (a, &j)| s + a * self.value[j as usize]);
            self.value[core[k] as usize] = sum / self.divisor[core[k] as usize];
        }
    }

    /// Gives `u` what `k` has, of which its share is `a` over the divisor; that share.
    fn pass(&mut self, k: u32, u: u32, a: f64) -> f64 {
        let (k, u) = (k as usize, u as usize);
        let share = a / self.divisor[k];
        if share > 0.0 {
            self.constant[u] += share * self.constant[k];
            self.leave[u] += share * self.leave[k];
        }
        share
    }
}

/// Adds shares of some rows to another.
fn add<const N: usize>(shares: [f64; N], rows: [&[f64]; N], to: &mut [f64]) {
    if shares.iter().all(|&share| share == 0.0) {
        return;
    }
    let rows = rows.map(|row| &row[..to.len()]);
    for (j, x) in to.iter_mut().enumerate() {
        for i in 0..N {
            *x += shares[i] * rows[i][j];
        }
    }
}

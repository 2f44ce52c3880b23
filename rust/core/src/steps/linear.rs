//! Expected values in a component with cycles: a sparse linear system, solved by taking one state after another out.
//!
//! A state `k` with `V_k = (c_k + sum_j a_kj V_j) / d_k` is put into those that lead to it. Its divisor is not one less
//! the share of coming back but the sum of the shares of going on and of leaving, so that nothing is subtracted and no
//! pivot is small by cancellation (Grassmann, Taksar and Heyman 1985). States with few ways in and out go first; agents
//! walk, so that there mostly are some. What is left is solved as a dense matrix or, where large, iterated.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::backup::{Cycle, Flow};
use crate::error::Result;

/// States that are solved as a dense matrix.
const DENSE: usize = 512;
/// Products of ways in and out up to which a state is taken out of a larger core.
const SPARSE: usize = 2048;

/// `V_u = constant_u + sum_j a_uj V_j` with `leave_u = 1 - sum_j a_uj`; memory is kept from system to system.
#[derive(Debug, Default)]
pub(super) struct Linear {
    pub(super) constant: Vec<f64>,
    pub(super) value: Vec<f64>,
    leave: Vec<f64>,
    divisor: Vec<f64>,
    out: Vec<Vec<(u32, f64)>>,
    into: Vec<Vec<(u32, f64)>>,
    gone: Vec<bool>,
    slot: Vec<u32>,
    order: Vec<u32>,
    cost: Vec<(u32, u32)>,
    heap: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Linear {
    /// Means of a component with cycles, to `values`.
    pub(super) fn mean(&mut self, flow: &Flow<'_>, cycle: &Cycle<'_>, values: &mut [f64]) -> Result<()> {
        let leaving = |e: &usize| flow.live(*e) && cycle.inner(flow.task.target[*e]).is_none();
        // Without a discount values may be counted from any one; where all exits are equal, that is exact.
        let first = cycle.nodes.iter().find_map(|&u| flow.task.out(u).find(leaving));
        let zero = first.filter(|_| flow.gamma == 1.0).map_or(0.0, |e| values[flow.task.target[e] as usize]);
        self.reset(cycle.nodes.len(), flow.gamma);
        for (i, &u) in cycle.nodes.iter().enumerate() {
            let edges = || flow.task.out(u).filter(|&e| flow.live(e));
            let total: f64 = edges().map(|e| flow.weight(e)).sum();
            for e in edges() {
                let (share, v) = (flow.weight(e) / total, flow.task.target[e]);
                self.constant[i] += share * flow.reward(e);
                self.add(i as u32, cycle.inner(v), flow.gamma * share);
                if cycle.inner(v).is_none() {
                    self.constant[i] += flow.gamma * share * (values[v as usize] - zero);
                }
            }
        }
        if !self.solve(flow.tol, flow.max_sweeps) {
            return Err(flow.unsettled(cycle.nodes.len()));
        }
        for (&u, value) in cycle.nodes.iter().zip(&self.value) {
            values[u as usize] = zero + value;
        }
        Ok(())
    }

    /// Begins a system of `n` states, of which each leaves with `1 - gamma`.
    pub(super) fn reset(&mut self, n: usize, gamma: f64) {
        for (list, x) in [
            (&mut self.constant, 0.0),
            (&mut self.value, 0.0),
            (&mut self.leave, 1.0 - gamma),
            (&mut self.divisor, 0.0),
        ] {
            list.clear();
            list.resize(n, x);
        }
        for lists in [&mut self.out, &mut self.into] {
            lists.iter_mut().take(n).for_each(Vec::clear);
            if lists.len() < n {
                lists.resize_with(n, Vec::new);
            }
        }
        self.gone.clear();
        self.gone.resize(n, false);
        self.slot.clear();
        self.slot.resize(n, u32::MAX);
        self.order.clear();
        self.heap.clear();
    }

    /// A share of going from `u` to `to`, or of leaving. That of staying is left out: it is what the others lack.
    pub(super) fn add(&mut self, u: u32, to: Option<u32>, share: f64) {
        match to {
            None => self.leave[u as usize] += share,
            Some(v) if v != u && share > 0.0 => {
                self.out[u as usize].push((v, share));
                self.into[v as usize].push((u, share));
            }
            Some(_) => {}
        }
    }

    /// Solves into `value`; false if it did not settle.
    pub(super) fn solve(&mut self, tol: f64, max_sweeps: usize) -> bool {
        let n = self.value.len();
        self.take_out(n);
        let core: Vec<u32> = (0..n as u32).filter(|&u| !self.gone[u as usize]).collect();
        let settled = if core.len() <= DENSE {
            self.dense(&core);
            true
        } else {
            self.sweep(&core, tol, max_sweeps)
        };
        for &k in self.order.iter().rev() {
            self.value[k as usize] = self.row(k);
        }
        // Shares so small that they vanish leave nothing to divide by.
        settled && self.value.iter().all(|x| x.is_finite())
    }

    /// What the values of the others make of `k`.
    fn row(&self, k: u32) -> f64 {
        let sum = self.out[k as usize]
            .iter()
            .fold(self.constant[k as usize], |s, &(j, a)| s + a * self.value[j as usize]);
        sum / self.divisor[k as usize]
    }

    /// Takes states out until the rest is better solved otherwise.
    fn take_out(&mut self, n: usize) {
        self.cost.clear();
        self.cost.extend((0..n).map(|u| (self.into[u].len() as u32, self.out[u].len() as u32)));
        for u in 0..n as u32 {
            self.queue(u);
        }
        let mut room = 4_000_000 + 8 * self.out[..n].iter().map(Vec::len).sum::<usize>();
        while let Some(Reverse((cost, k))) = self.heap.pop() {
            let at = k as usize;
            if self.gone[at] || cost != self.price(k) {
                continue;
            }
            for lists in [&mut self.out, &mut self.into] {
                compact(&mut lists[at], k, &self.gone, &mut self.slot);
            }
            let (out, into) = (std::mem::take(&mut self.out[at]), std::mem::take(&mut self.into[at]));
            let (fill, left) = (out.len() * into.len(), n - self.order.len());
            // A dense state costs left^2 / 3 steps that are some ten times as fast.
            let enough = if left <= DENSE { 16 * fill > left * left } else { fill > SPARSE || fill > room };
            if enough {
                (self.out[at], self.into[at]) = (out, into);
                break;
            }
            room -= fill.min(room);
            let divisor = self.leave[at] + out.iter().map(|x| x.1).sum::<f64>();
            for &(u, a) in &into {
                let share = a / divisor;
                self.constant[u as usize] += share * self.constant[at];
                self.leave[u as usize] += share * self.leave[at];
                for &(j, b) in out.iter().filter(|x| x.0 != u) {
                    self.out[u as usize].push((j, share * b));
                    self.into[j as usize].push((u, share * b));
                    self.cost[u as usize].1 += 1;
                    self.cost[j as usize].0 += 1;
                }
                self.cost[u as usize].1 -= 1;
            }
            for &(j, _) in &out {
                self.cost[j as usize].0 -= 1;
            }
            (self.divisor[at], self.out[at], self.gone[at]) = (divisor, out, true);
            self.order.push(k);
            for i in 0..into.len() + self.out[at].len() {
                let u = into.get(i).or_else(|| self.out[at].get(i - into.len())).map_or(k, |x| x.0);
                self.queue(u);
            }
        }
    }

    fn price(&self, u: u32) -> u64 {
        let (into, out) = self.cost[u as usize];
        u64::from(into) * u64::from(out)
    }

    fn queue(&mut self, u: u32) {
        self.heap.push(Reverse((self.price(u), u)));
    }

    /// Solves the states that are left as a dense matrix, the last one taken out first.
    fn dense(&mut self, core: &[u32]) {
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
        for k in (0..m).rev() {
            let (above, below) = a.split_at_mut(k * m);
            let (at, row) = (core[k] as usize, &below[..k]);
            self.divisor[at] = self.leave[at] + row.iter().sum::<f64>();
            let (constant, leave) = (self.constant[at], self.leave[at]);
            for (&u, other) in core[..k].iter().zip(above.chunks_exact_mut(m)) {
                let share = other[k] / self.divisor[at];
                if share > 0.0 {
                    self.constant[u as usize] += share * constant;
                    self.leave[u as usize] += share * leave;
                    other[..k].iter_mut().zip(row).for_each(|(x, y)| *x += share * y);
                    // What comes back stays, which is no way on.
                }
            }
        }
        for k in 0..m {
            let row = a[k * m..k * m + k].iter().zip(core);
            let sum = row.fold(self.constant[core[k] as usize], |s, (a, &j)| s + a * self.value[j as usize]);
            self.value[core[k] as usize] = sum / self.divisor[core[k] as usize];
        }
    }

    /// Gauss-Seidel over the states that are left, forwards and backwards in turn.
    fn sweep(&mut self, core: &[u32], tol: f64, max_sweeps: usize) -> bool {
        // The share of a change that the next sweep can keep, at most.
        let mut keeps = 0.0f64;
        for &u in core {
            let at = u as usize;
            compact(&mut self.out[at], u, &self.gone, &mut self.slot);
            let going: f64 = self.out[at].iter().map(|x| x.1).sum();
            self.divisor[at] = self.leave[at] + going;
            keeps = keeps.max(going / self.divisor[at]);
        }
        let sum = |x: &[f64]| core.iter().map(|&u| x[u as usize]).sum::<f64>();
        let start = sum(&self.constant) / sum(&self.leave);
        core.iter().for_each(|&u| self.value[u as usize] = start);
        let mut before = f64::INFINITY;
        for sweep in 0..max_sweeps {
            let (mut change, mut scale) = (0.0f64, 0.0f64);
            for i in 0..core.len() {
                let u = core[if sweep % 2 == 0 { i } else { core.len() - 1 - i }];
                let new = self.row(u);
                change = change.max((new - self.value[u as usize]).abs());
                scale = scale.max(new.abs());
                self.value[u as usize] = new;
            }
            // A bound of the error where the discount gives one, else an estimate from how changes shrink.
            let shrinks = if keeps < 0.9999 { keeps } else { (change / before).min(keeps.min(1.0 - 1e-9)) };
            if change * shrinks <= tol * scale * (1.0 - shrinks) && sweep > 0 {
                return true;
            }
            before = change;
        }
        false
    }
}

/// Adds up shares of the same node and drops those of `own` and of nodes that are gone.
fn compact(list: &mut Vec<(u32, f64)>, own: u32, gone: &[bool], slot: &mut [u32]) {
    let mut kept = 0;
    for i in 0..list.len() {
        let (j, share) = list[i];
        if j == own || gone[j as usize] {
            continue;
        }
        let place = slot[j as usize];
        if place == u32::MAX {
            slot[j as usize] = kept as u32;
            list[kept] = (j, share);
            kept += 1;
        } else {
            list[place as usize].1 += share;
        }
    }
    list.truncate(kept);
    for &(j, _) in list.iter() {
        slot[j as usize] = u32::MAX;
    }
}

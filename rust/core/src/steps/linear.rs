//! Expected values in a component with cycles: a sparse linear system, solved by taking one state after another out.
//!
//! A state `k` with `V_k = (c_k + sum_j a_kj V_j) / d_k` is put into those that lead to it. Its divisor is not one less
//! the share of coming back but the sum of the shares of going on and of leaving, so that nothing is subtracted and no
//! pivot is small by cancellation (Grassmann, Taksar and Heyman 1985). States with few ways in and out go first; agents
//! walk, so that there mostly are some. What is left is solved as a dense matrix or, where large, iterated.

mod dense;
mod sweep;

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::backup::{Cycle, Flow};
use crate::error::Result;

/// States that are solved as a dense matrix.
const DENSE: usize = 2048;
/// Products of ways in and out in all, and entries that they add, up to which states are taken out of a larger core.
const PRODUCTS: usize = 10_000_000;
const ENTRIES: usize = 4_000_000;
/// A smaller divisor has lost digits, or all of them.
const TINY: f64 = 1e-250;

/// Why there is no solution.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Unsolved {
    /// Iterations have not come near enough.
    Unsettled,
    /// States are left with a share too small for a double.
    Locked(f64),
}

/// `V_u = constant_u + sum_j a_uj V_j` with `leave_u = 1 - sum_j a_uj`; memory is kept from system to system.
#[derive(Debug, Default)]
pub(super) struct Linear {
    pub(super) constant: Vec<f64>,
    pub(super) value: Vec<f64>,
    /// What the values of [`Linear::mean`] were counted from.
    pub(super) zero: f64,
    leave: Vec<f64>,
    divisor: Vec<f64>,
    out: Vec<Vec<(u32, f64)>>,
    into: Vec<Vec<(u32, f64)>>,
    gone: Vec<bool>,
    slot: Vec<u32>,
    order: Vec<u32>,
    /// Ways in and out of each state, some counted twice, and how many they were when they were counted last.
    cost: Vec<(u32, u32)>,
    kept: Vec<(u32, u32)>,
    heap: BinaryHeap<Reverse<(u64, u32)>>,
}

impl Linear {
    /// Means of a component with cycles, to `values`.
    pub(super) fn mean(&mut self, flow: &Flow<'_>, cycle: &Cycle<'_>, values: &mut [f64]) -> Result<()> {
        let leaving = |&e: &usize| flow.live(e) && cycle.inner(flow.task.target[e]).is_none();
        let exits = cycle.nodes.iter().flat_map(|&u| flow.task.out(u)).filter(leaving);
        let mut exits = exits.map(|e| values[flow.task.target[e] as usize]);
        self.zero = 0.0;
        if flow.gamma == 1.0 {
            // Without a discount values may be counted from any one: the least, so that it hides no other.
            let first = exits.next().unwrap_or(0.0);
            let (least, equal) = exits.fold((first, true), |(least, equal), x| {
                (if x.abs() < least.abs() { x } else { least }, equal && x == first)
            });
            self.zero = least;
            if equal && flow.rewards.is_none() {
                cycle.nodes.iter().for_each(|&u| values[u as usize] = first);
                return Ok(());
            }
        }
        self.reset(cycle.nodes.len(), flow.gamma);
        for (i, &u) in cycle.nodes.iter().enumerate() {
            let edges = || flow.task.out(u).filter(|&e| flow.live(e));
            let total: f64 = edges().map(|e| flow.weight(e)).sum();
            for e in edges() {
                let (share, v) = (flow.weight(e) / total, flow.task.target[e]);
                self.constant[i] += share * flow.reward(e);
                self.add(i as u32, cycle.inner(v), flow.gamma * share);
                if cycle.inner(v).is_none() {
                    self.constant[i] += flow.gamma * share * (values[v as usize] - self.zero);
                }
            }
        }
        self.solve(flow.tol, flow.max_sweeps).map_err(|why| flow.unsolved(why, cycle.nodes.len()))?;
        for (&u, value) in cycle.nodes.iter().zip(&self.value) {
            values[u as usize] = self.zero + value;
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

    /// Solves into `value`.
    pub(super) fn solve(&mut self, tol: f64, max_sweeps: usize) -> std::result::Result<(), Unsolved> {
        let n = self.value.len();
        self.take_out(n);
        let core: Vec<u32> = (0..n as u32).filter(|&u| !self.gone[u as usize]).collect();
        if core.len() <= DENSE {
            self.dense(&core);
        } else {
            self.sweep(&core, tol, max_sweeps)?;
        }
        for &k in self.order.iter().rev() {
            self.value[k as usize] = self.row(k);
        }
        match self.divisor.iter().find(|&&d| d < TINY) {
            Some(&d) => Err(Unsolved::Locked(d)),
            None if self.value.iter().all(|x| x.is_finite()) => Ok(()),
            None => Err(Unsolved::Unsettled),
        }
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
        self.kept.clear();
        self.kept.extend_from_slice(&self.cost);
        for u in 0..n as u32 {
            self.queue(u);
        }
        let entries: usize = self.out[..n].iter().map(Vec::len).sum();
        let (mut products, mut room) = (PRODUCTS, ENTRIES + 2 * entries);
        while let Some(Reverse((cost, k))) = self.heap.pop() {
            let at = k as usize;
            if self.gone[at] || cost != self.price(k) {
                continue;
            }
            room += self.tidy(k);
            let (out, into) = (std::mem::take(&mut self.out[at]), std::mem::take(&mut self.into[at]));
            let (fill, left) = (out.len() * into.len(), n - self.order.len());
            // A dense state costs left^2 / 3 steps that are some ten times as fast.
            let enough = 16 * fill > left * left || (left > DENSE && fill > room.min(products));
            if enough {
                (self.out[at], self.into[at]) = (out, into);
                break;
            }
            products -= fill.min(products);
            room = (room + out.len() + into.len()).saturating_sub(fill);
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
                let (kept, now) = (self.kept[u as usize], &self.out[u as usize]);
                if now.len() > 2 * kept.1 as usize + 16
                    || self.into[u as usize].len() > 2 * kept.0 as usize + 16
                {
                    room += self.tidy(u);
                }
                self.queue(u);
            }
        }
    }

    /// Drops what is gone from the lists of `u` and adds up what is there twice; how many entries that saves.
    fn tidy(&mut self, u: u32) -> usize {
        let at = u as usize;
        let before = self.out[at].len() + self.into[at].len();
        for lists in [&mut self.out, &mut self.into] {
            compact(&mut lists[at], u, &self.gone, &mut self.slot);
        }
        let now = (self.into[at].len() as u32, self.out[at].len() as u32);
        (self.cost[at], self.kept[at]) = (now, now);
        before - self.out[at].len() - self.into[at].len()
    }

    fn price(&self, u: u32) -> u64 {
        let (into, out) = self.cost[u as usize];
        u64::from(into) * u64::from(out)
    }

    fn queue(&mut self, u: u32) {
        self.heap.push(Reverse((self.price(u), u)));
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

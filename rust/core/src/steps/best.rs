//! The largest value in a component with cycles: the best of all walks that leave it.

use std::collections::BinaryHeap;

use super::backup::{Cycle, Flow};
use crate::error::{Error, Result};

/// Memory kept from component to component.
#[derive(Debug, Default)]
pub(super) struct Best {
    heap: BinaryHeap<(u64, u32)>,
    starts: Vec<u32>,
    sources: Vec<u32>,
    value: Vec<f64>,
    reward: Vec<f64>,
    after: Vec<u32>,
    path: Vec<u32>,
    state: Vec<u8>,
}

/// A step that leaves the component.
const OUT: u32 = u32::MAX;

/// Writes `V(u) = sup over walks from u out of the component` to `values`.
pub(super) fn solve(flow: &Flow<'_>, cycle: &Cycle<'_>, m: &mut Best, values: &mut [f64]) -> Result<()> {
    m.value.clear();
    m.value.extend(cycle.nodes.iter().map(|&u| {
        let leaving = flow.task.out(u).filter(|&e| cycle.inner(flow.task.target[e]).is_none());
        leaving.map(|e| flow.q(e, values)).fold(f64::NEG_INFINITY, f64::max)
    }));
    if flow.rewards.is_some() {
        m.improve(flow, cycle, values)?;
    } else if flow.gamma == 1.0 {
        let best = m.value.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        m.value.fill(best);
    } else {
        m.spread(flow, cycle);
    }
    for (&u, &value) in cycle.nodes.iter().zip(&m.value) {
        values[u as usize] = value;
    }
    Ok(())
}

impl Best {
    /// Without rewards: the best exit discounted by the way to it, best first. Going round for ever is worth 0, which no
    /// discounted loss exceeds.
    fn spread(&mut self, flow: &Flow<'_>, cycle: &Cycle<'_>) {
        self.reverse(flow, cycle);
        self.heap.clear();
        for (u, value) in self.value.iter_mut().enumerate() {
            *value = value.max(0.0);
            if *value > 0.0 {
                self.heap.push((value.to_bits(), u as u32));
            }
        }
        while let Some((bits, v)) = self.heap.pop() {
            if bits != self.value[v as usize].to_bits() {
                continue;
            }
            let value = flow.gamma * f64::from_bits(bits);
            for &u in &self.sources[self.starts[v as usize] as usize..self.starts[v as usize + 1] as usize] {
                if value > self.value[u as usize] {
                    self.value[u as usize] = value;
                    self.heap.push((value.to_bits(), u));
                }
            }
        }
    }

    /// Edges inside, by the node that they lead to.
    fn reverse(&mut self, flow: &Flow<'_>, cycle: &Cycle<'_>) {
        let inside = |u: u32| flow.task.out(u).filter_map(|e| cycle.inner(flow.task.target[e]));
        self.starts.clear();
        self.starts.resize(cycle.nodes.len() + 2, 0);
        for v in cycle.nodes.iter().flat_map(|&u| inside(u)) {
            self.starts[v as usize + 2] += 1;
        }
        for v in 2..self.starts.len() {
            self.starts[v] += self.starts[v - 1];
        }
        self.sources.clear();
        self.sources.resize(self.starts[self.starts.len() - 1] as usize, 0);
        for (i, &u) in cycle.nodes.iter().enumerate() {
            for v in inside(u) {
                let place = &mut self.starts[v as usize + 1];
                self.sources[*place as usize] = i as u32;
                *place += 1;
            }
        }
    }

    /// With rewards: policy iteration, from a policy that leaves the component from every node.
    fn improve(&mut self, flow: &Flow<'_>, cycle: &Cycle<'_>, values: &[f64]) -> Result<()> {
        self.reverse(flow, cycle);
        self.begin(flow, cycle);
        let mut outer = self.value.clone();
        for (u, value) in outer.iter_mut().enumerate() {
            // What leads out has a value of its own that no policy changes.
            if self.after[u] != OUT {
                *value = self.value[u];
            }
        }
        for _ in 0..=flow.max_sweeps {
            self.evaluate(flow, &outer)?;
            let scale = self.value.iter().chain(&self.reward).fold(0.0f64, |a, x| a.max(x.abs()));
            let step = 64.0 * f64::EPSILON * scale;
            let mut done = true;
            for (i, &u) in cycle.nodes.iter().enumerate() {
                let mut best = self.value[i] + step;
                for e in flow.task.out(u) {
                    let inner = cycle.inner(flow.task.target[e]);
                    let q = match inner {
                        Some(v) => flow.reward(e) + flow.gamma * self.value[v as usize],
                        None => flow.q(e, values),
                    };
                    if q > best {
                        (best, done) = (q, false);
                        (self.after[i], self.reward[i]) = (inner.unwrap_or(OUT), flow.reward(e));
                        if inner.is_none() {
                            outer[i] = q;
                        }
                    }
                }
            }
            if done {
                return Ok(());
            }
        }
        Err(flow.unsettled(cycle.nodes.len()))
    }

    /// Each node takes its way out, or the first step of a shortest way to a node that has one.
    fn begin(&mut self, flow: &Flow<'_>, cycle: &Cycle<'_>) {
        let n = cycle.nodes.len();
        self.reward.clear();
        self.reward.resize(n, 0.0);
        self.after.clear();
        self.after.resize(n, OUT);
        self.path.clear();
        self.path.extend((0..n as u32).filter(|&u| self.value[u as usize] > f64::NEG_INFINITY));
        self.state.clear();
        self.state.resize(n, 0);
        for &u in &self.path {
            self.state[u as usize] = 1;
        }
        let mut at = 0;
        while at < self.path.len() {
            let v = self.path[at];
            at += 1;
            for k in self.starts[v as usize]..self.starts[v as usize + 1] {
                let u = self.sources[k as usize];
                if self.state[u as usize] == 0 {
                    self.state[u as usize] = 1;
                    self.after[u as usize] = v;
                    self.path.push(u);
                }
            }
        }
        for (i, &u) in cycle.nodes.iter().enumerate() {
            let taken = flow.task.out(u).find(|&e| cycle.inner(flow.task.target[e]) == Some(self.after[i]));
            self.reward[i] = taken.map_or(0.0, |e| flow.reward(e));
        }
    }

    /// Values of the policy, `after` and `reward`; nodes that step out have theirs in `outer`.
    fn evaluate(&mut self, flow: &Flow<'_>, outer: &[f64]) -> Result<()> {
        const NEW: u8 = 0;
        const OPEN: u8 = 1;
        const DONE: u8 = 2;
        self.state.fill(NEW);
        for start in 0..self.after.len() as u32 {
            self.path.clear();
            let mut u = start;
            while u != OUT && self.state[u as usize] == NEW {
                self.state[u as usize] = OPEN;
                self.path.push(u);
                u = self.after[u as usize];
            }
            let mut value = f64::NAN;
            if u != OUT && self.state[u as usize] == OPEN {
                value = self.round(flow, u)?;
                self.value[u as usize] = value;
                self.state[u as usize] = DONE;
            } else if u != OUT {
                value = self.value[u as usize];
            }
            while let Some(u) = self.path.pop() {
                let i = u as usize;
                if self.state[i] != DONE {
                    let next = self.after[i];
                    self.value[i] = if next == OUT { outer[i] } else { self.reward[i] + flow.gamma * value };
                    self.state[i] = DONE;
                }
                value = self.value[i];
            }
        }
        Ok(())
    }

    /// Value of a node from which the policy comes back to it.
    fn round(&self, flow: &Flow<'_>, start: u32) -> Result<f64> {
        let (mut u, mut sum, mut discount, mut length) = (start, 0.0, 1.0, 0.0);
        loop {
            sum += discount * self.reward[u as usize];
            discount *= flow.gamma;
            length += 1.0;
            u = self.after[u as usize];
            if u == start {
                break;
            }
        }
        if flow.gamma == 1.0 {
            // Only a gain makes a policy turn back.
            let reason = format!(
                "must have no cycle of positive sum with how='max' and gamma=1, whose states have no largest value, but \
                 {length} steps in a circle give {sum}"
            );
            return Err(Error::Structure { arg: "edge_rewards", reason });
        }
        Ok(sum / -(length * flow.gamma.ln()).exp_m1())
    }
}

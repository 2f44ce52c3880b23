//! The largest value in a component with cycles: the best of all walks that leave it.

use std::collections::{BinaryHeap, VecDeque};

use super::backup::{Cycle, Flow};
use super::linear::Unsolved;
use crate::error::{Error, Result};

/// Memory kept from component to component.
#[derive(Debug, Default)]
pub(super) struct Best {
    heap: BinaryHeap<(u64, u32)>,
    starts: Vec<u32>,
    /// Node and edge.
    sources: Vec<(u32, u32)>,
    queue: VecDeque<u32>,
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
            for &(u, _) in
                &self.sources[self.starts[v as usize] as usize..self.starts[v as usize + 1] as usize]
            {
                if value > self.value[u as usize] {
                    self.value[u as usize] = value;
                    self.heap.push((value.to_bits(), u));
                }
            }
        }
    }

    /// Edges inside, by the node that they lead to.
    fn reverse(&mut self, flow: &Flow<'_>, cycle: &Cycle<'_>) {
        let inside =
            |u: u32| flow.task.out(u).filter_map(|e| cycle.inner(flow.task.target[e]).map(|v| (v, e as u32)));
        self.starts.clear();
        self.starts.resize(cycle.nodes.len() + 2, 0);
        for (v, _) in cycle.nodes.iter().flat_map(|&u| inside(u)) {
            self.starts[v as usize + 2] += 1;
        }
        for v in 2..self.starts.len() {
            self.starts[v] += self.starts[v - 1];
        }
        self.sources.clear();
        self.sources.resize(self.starts[self.starts.len() - 1] as usize, (0, 0));
        for (i, &u) in cycle.nodes.iter().enumerate() {
            for (v, e) in inside(u) {
                let place = &mut self.starts[v as usize + 1];
                self.sources[*place as usize] = (i as u32, e);
                *place += 1;
            }
        }
    }

    /// With rewards: policy iteration, from a policy that leaves the component from every node.
    fn improve(&mut self, flow: &Flow<'_>, cycle: &Cycle<'_>, values: &[f64]) -> Result<()> {
        self.reverse(flow, cycle);
        let exits = self.value.clone();
        self.begin(flow, cycle);
        let mut least = 64.0;
        for _ in 0..=flow.max_sweeps {
            if let Some(length) = self.evaluate(flow, &exits)? {
                // Rounding has closed a circle that gains nothing. From here on so little is no gain.
                least *= 2.0 * length;
                self.value.clone_from(&exits);
                self.begin(flow, cycle);
                continue;
            }
            let scale = self.value.iter().chain(&self.reward).fold(0.0f64, |a, x| a.max(x.abs()));
            let step = least * f64::EPSILON * scale;
            self.queue.clear();
            for (i, &u) in cycle.nodes.iter().enumerate() {
                let mut better = false;
                for e in flow.task.out(u) {
                    let inner = cycle.inner(flow.task.target[e]);
                    let q = match inner {
                        Some(v) => flow.reward(e) + flow.gamma * self.value[v as usize],
                        None => flow.q(e, values),
                    };
                    if q > self.value[i] + step {
                        (self.value[i], better) = (q, true);
                        (self.after[i], self.reward[i]) = (inner.unwrap_or(OUT), flow.reward(e));
                    }
                }
                if better {
                    self.queue.push_back(i as u32);
                }
            }
            if self.queue.is_empty() {
                return Ok(());
            }
            self.relax(flow, step);
        }
        Err(flow.unsolved(Unsolved::Unsettled, cycle.nodes.len()))
    }

    /// Lets what has become better make others better, for a while: a gain in a circle would do so for long, and is what
    /// policies are evaluated for.
    fn relax(&mut self, flow: &Flow<'_>, step: f64) {
        self.state.fill(0);
        self.queue.iter().for_each(|&u| self.state[u as usize] = 1);
        let mut left = 4 * (self.sources.len() + self.value.len());
        while let Some(v) = self.queue.pop_front() {
            self.state[v as usize] = 0;
            let into = self.starts[v as usize] as usize..self.starts[v as usize + 1] as usize;
            left = left.saturating_sub(into.len());
            for &(u, e) in &self.sources[into] {
                let (i, reward) = (u as usize, flow.reward(e as usize));
                let q = reward + flow.gamma * self.value[v as usize];
                if q > self.value[i] + step {
                    (self.value[i], self.after[i], self.reward[i]) = (q, v, reward);
                    if self.state[i] == 0 {
                        self.state[i] = 1;
                        self.queue.push_back(u);
                    }
                }
            }
            if left == 0 {
                return;
            }
        }
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
                let (u, _) = self.sources[k as usize];
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

    /// Values of the policy, `after` and `reward`; nodes that step out have theirs in `exits`. If it goes round for
    /// nothing, without a discount, the length of the circle.
    fn evaluate(&mut self, flow: &Flow<'_>, exits: &[f64]) -> Result<Option<f64>> {
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
                value = match self.round(flow, u)? {
                    Round::Worth(value) => value,
                    Round::Nothing { length } => return Ok(Some(length)),
                };
                self.value[u as usize] = value;
                self.state[u as usize] = DONE;
            } else if u != OUT {
                value = self.value[u as usize];
            }
            while let Some(u) = self.path.pop() {
                let i = u as usize;
                if self.state[i] != DONE {
                    let next = self.after[i];
                    self.value[i] = if next == OUT { exits[i] } else { self.reward[i] + flow.gamma * value };
                    self.state[i] = DONE;
                }
                value = self.value[i];
            }
        }
        Ok(None)
    }

    /// Value of a node from which the policy comes back to it.
    fn round(&self, flow: &Flow<'_>, start: u32) -> Result<Round> {
        let (mut u, mut sum, mut size, mut discount, mut length) = (start, 0.0, 0.0, 1.0, 0.0);
        loop {
            sum += discount * self.reward[u as usize];
            size += self.reward[u as usize].abs();
            discount *= flow.gamma;
            length += 1.0;
            u = self.after[u as usize];
            if u == start {
                break;
            }
        }
        if flow.gamma < 1.0 {
            return Ok(Round::Worth(sum / -(length * flow.gamma.ln()).exp_m1()));
        }
        if sum <= length * f64::EPSILON * size {
            return Ok(Round::Nothing { length });
        }
        let reason = format!(
            "must have no cycle of positive sum with how='max' and gamma=1, whose states have no largest value, but \
             {length} steps in a circle give {sum}"
        );
        Err(Error::Structure { arg: "edge_rewards", reason })
    }
}

/// What going round is worth.
enum Round {
    Worth(f64),
    /// Without a discount, up to rounding.
    Nothing {
        length: f64,
    },
}

//! Strongly connected components, those that others lead to first: Tarjan's algorithm without recursion.

use std::ops::Range;

/// Number of a node that is in no component.
pub(super) const NONE: u32 = u32::MAX;

/// Components in reverse topological order; memory is kept from call to call.
#[derive(Debug, Default)]
pub(super) struct Components {
    /// Nodes, component after component.
    nodes: Vec<u32>,
    /// Component `c` is `nodes[bounds[c]..bounds[c + 1]]`.
    bounds: Vec<u32>,
    /// Component of each node, or [`NONE`].
    pub(super) of: Vec<u32>,
    low: Vec<u32>,
    open: Vec<u32>,
    path: Vec<(u32, u32, u32)>,
}

impl Components {
    /// Components of the nodes `enter` of `0..offsets.len() - 1`, by the edges `live` between them.
    pub(super) fn find(
        &mut self,
        (offsets, target): (&[u32], &[u32]),
        enter: impl Fn(u32) -> bool,
        live: impl Fn(usize) -> bool,
    ) {
        let n = offsets.len() - 1;
        self.nodes.clear();
        self.bounds.clear();
        self.bounds.push(0);
        for list in [&mut self.of, &mut self.low] {
            list.clear();
            list.resize(n, NONE);
        }
        // `low` is NONE before a visit; `of` is NONE until the component is closed.
        let mut visited = 0;
        for root in 0..n as u32 {
            if self.low[root as usize] != NONE || !enter(root) {
                continue;
            }
            self.push(root, &mut visited, offsets);
            while let Some(&mut (u, number, ref mut edge)) = self.path.last_mut() {
                if *edge < offsets[u as usize + 1] {
                    let e = *edge as usize;
                    *edge += 1;
                    let v = target[e];
                    if v as usize >= n || !live(e) || !enter(v) || self.of[v as usize] != NONE {
                        continue;
                    }
                    match self.low[v as usize] {
                        NONE => self.push(v, &mut visited, offsets),
                        low => self.low[u as usize] = self.low[u as usize].min(low),
                    }
                    continue;
                }
                self.path.pop();
                if let Some(&(parent, ..)) = self.path.last() {
                    self.low[parent as usize] = self.low[parent as usize].min(self.low[u as usize]);
                }
                if self.low[u as usize] == number {
                    self.close(u);
                }
            }
        }
    }

    fn push(&mut self, u: u32, visited: &mut u32, offsets: &[u32]) {
        self.low[u as usize] = *visited;
        self.path.push((u, *visited, offsets[u as usize]));
        self.open.push(u);
        *visited += 1;
    }

    fn close(&mut self, root: u32) {
        let component = self.bounds.len() as u32 - 1;
        while let Some(v) = self.open.pop() {
            self.of[v as usize] = component;
            self.nodes.push(v);
            if v == root {
                break;
            }
        }
        self.bounds.push(self.nodes.len() as u32);
    }

    pub(super) fn len(&self) -> usize {
        self.bounds.len() - 1
    }

    pub(super) fn range(&self, component: usize) -> Range<usize> {
        self.bounds[component] as usize..self.bounds[component + 1] as usize
    }

    pub(super) fn nodes(&self, component: usize) -> &[u32] {
        &self.nodes[self.range(component)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_come_after_those_they_lead_to() {
        // 0 -> 1 <-> 2 -> 3, 3 -> 3, 4 -> 0; 5 is kept out.
        let (offsets, target) = ([0, 1, 2, 4, 5, 6, 7], [1, 2, 1, 3, 3, 0, 0]);
        let mut c = Components::default();
        for _ in 0..2 {
            c.find((&offsets, &target), |u| u != 5, |_| true);
            let all: Vec<_> = (0..c.len()).map(|i| c.nodes(i).to_vec()).collect();
            assert_eq!(all, [vec![3], vec![2, 1], vec![0], vec![4]]);
            assert_eq!(c.of, [2, 1, 1, 0, 3, NONE]);
        }
        c.find((&offsets, &target), |_| true, |e| e != 2);
        assert_eq!(c.len(), 6);
    }

    #[test]
    fn a_long_chain_is_no_recursion() {
        let n = 1_000_000u32;
        let offsets: Vec<u32> = (0..=n).map(|u| u.min(n - 1)).collect();
        let target: Vec<u32> = (1..n).collect();
        let mut c = Components::default();
        c.find((&offsets, &target), |_| true, |_| true);
        assert_eq!((c.len(), c.nodes(0)), (n as usize, &[n - 1][..]));
    }
}

//! One group: the projection without a norm, and the multiple of the input whose projection has a given norm.

use super::blocks::Blocks;
use super::forest::Pools;
use super::order::Order;
use super::wide::Wide;
use super::{Norm, Status};

/// Rows that a projection may visit for each row and edge before it gives up, and how many it may always visit.
const PATIENCE: u64 = 4096;
const FLOOR: u64 = 1 << 22;

/// Memory for one group after another.
#[derive(Debug, Default)]
pub(super) struct Solver {
    pub(super) order: Order,
    pub(super) x: Vec<f64>,
    pub(super) out: Vec<f64>,
    scaled: Vec<f64>,
    pools: Pools,
    blocks: Blocks,
    /// How far a gap may be above 0: the rounding of its computation.
    slack: Wide,
    /// Work that counts as done before it begins; only tests set it.
    pub(super) spent: u64,
}

/// Squared norms of the two parts of a projection, the means of `x` over the blocks and what the margins put each row
/// above its block's mean. They are orthogonal: `|P(t x)|^2 = t^2 mean + lift`.
#[derive(Clone, Copy)]
struct Parts {
    mean: f64,
    lift: f64,
}

impl Parts {
    fn at(self, t: f64) -> f64 {
        t * t * self.mean + self.lift
    }
}

/// The budget ran out.
struct Unfinished;

impl Solver {
    /// Projects `x` into `out`. `rounding`: the relative error of `x`, under which its ordered part counts as none.
    pub(super) fn run(&mut self, norm: Norm, radius: f64, rounding: f64) -> Status {
        let square = radius * radius;
        let size: f64 = self.x.iter().map(|v| v * v).sum();
        let near = 4.0 * f64::EPSILON * self.x.len() as f64 * square;
        let fits = match norm {
            Norm::Free => true,
            Norm::Ball => size <= square + near,
            Norm::Sphere => (size - square).abs() <= near,
        };
        if fits && self.in_order() {
            self.out.clone_from(&self.x);
            return Status::Solved;
        }
        self.order.orient(self.x.len());
        let done = match norm {
            Norm::Free => {
                self.pool(1.0, 1.0);
                if (0..self.order.len()).all(|e| self.holds(e, 1.0)) {
                    self.round();
                    return Status::Solved;
                }
                self.settle(1.0).map(|_| (1.0, Status::Solved))
            }
            Norm::Ball => self.ball(square, near),
            Norm::Sphere => self.sphere(square, near, rounding),
        };
        match done {
            Ok((t, status)) => {
                self.write(t, 1.0);
                status
            }
            Err(Unfinished) => {
                self.round();
                Status::Unfinished
            }
        }
    }

    fn round(&mut self) {
        self.out.clear();
        // Zero has no sign, whichever way round its part was solved.
        self.out.extend(self.blocks.value.iter().map(|v| v.round() + 0.0));
    }

    fn in_order(&self) -> bool {
        let order = &self.order;
        let x = &self.x;
        // A difference rounds, but with a margin of 0 its sign does not.
        let largest = x.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        (0..order.len()).all(|e| {
            let margin = order.margin[e];
            let slack = if margin > 0.0 { 4.0 * f64::EPSILON * largest.max(margin) } else { 0.0 };
            x[order.to[e] as usize] - x[order.from[e] as usize] >= margin - slack
        })
    }

    fn ball(&mut self, square: f64, near: f64) -> Result<(f64, Status), Unfinished> {
        let parts = self.solve(1.0, 1.0)?;
        if parts.at(1.0) <= square + near {
            return Ok((1.0, Status::Solved));
        }
        self.search(1.0, square, near)
    }

    fn sphere(&mut self, square: f64, near: f64, rounding: f64) -> Result<(f64, Status), Unfinished> {
        // What the margins do not change of the direction; |P(t x)| >= t |direction|.
        let direction = self.solve(1.0, 0.0)?.mean;
        let largest = self.x.iter().fold(0.0f64, |m, v| m.max(v.abs()));
        let nothing = rounding * largest;
        if direction > nothing * nothing * self.x.len() as f64 {
            return self.search((square / direction).sqrt(), square, near);
        }
        // Bounded for all t. Beyond the last t nothing changes that float64 could tell.
        let mut t = 1.0;
        while t < 1e18 {
            if self.solve(t, 1.0)?.lift >= square - near {
                return self.search(t, square, near);
            }
            t = if largest > 0.0 { 64.0 * t } else { f64::INFINITY };
        }
        self.solve(1.0, 1.0)?;
        if self.order.margin.iter().all(|&m| m == 0.0) {
            self.x.fill(0.0);
            self.solve(0.0, 0.0)?;
        }
        Ok((1.0, Status::Saturated))
    }

    /// `t <= most` with `|P(t x)|^2 = square`, where it is at least that at `most`. On a piece with the same blocks the
    /// root is known; between pieces a bracket keeps it safe, since the norm never falls with `t`.
    fn search(&mut self, most: f64, square: f64, near: f64) -> Result<(f64, Status), Unfinished> {
        let (mut low, mut high, mut t) = (0.0, most, most);
        for round in 0..1100 {
            let parts = self.solve(t, 1.0)?;
            if low == 0.0 && (round == 3 || parts.lift >= square - near) {
                // Is the shortest vector in order already too long, or just as long?
                let shortest = self.solve(0.0, 1.0)?.lift;
                if shortest >= square - near {
                    let fits = shortest <= square + near;
                    return Ok((0.0, if fits { Status::Solved } else { Status::Infeasible }));
                }
                self.solve(t, 1.0)?;
            }
            let root = ((square - parts.lift) / parts.mean).sqrt();
            if (root - t).abs() <= 2.0 * f64::EPSILON * t {
                return Ok((root, Status::Solved));
            }
            if (parts.at(t) - square).abs() <= near {
                return Ok((t, Status::Solved));
            }
            if parts.at(t) > square {
                high = t
            } else {
                low = t
            }
            if high - low <= 2.0 * f64::EPSILON * high {
                // The norm jumps nowhere; what is left is rounding.
                return Ok((t, Status::Solved));
            }
            t = if root > low && root < high { root } else { low + 0.5 * (high - low) };
        }
        Err(Unfinished)
    }

    /// Blocks of the projection of `t x`, margins times `scale`.
    fn solve(&mut self, t: f64, scale: f64) -> Result<Parts, Unfinished> {
        self.pool(t, scale);
        self.settle(scale)
    }

    /// The projection onto a forest of the edges, exact if the other edges hold, too.
    fn pool(&mut self, t: f64, scale: f64) {
        self.scaled.clear();
        self.scaled.extend(self.x.iter().map(|v| t * v));
        self.pools.solve(&self.order, &self.scaled, scale, &mut self.blocks.value);
        let largest = self.scaled.iter().chain(&self.order.margin).fold(0.0f64, |m, v| m.max(v.abs()));
        self.slack = Wide::from(1e-26 * self.x.len() as f64 * largest);
    }

    fn holds(&self, e: usize, scale: f64) -> bool {
        self.pools.holds(&self.order, e) || self.blocks.gap(&self.order, e, scale) <= self.slack
    }

    /// From there to the projection onto all edges.
    fn settle(&mut self, scale: f64) -> Result<Parts, Unfinished> {
        let (n, order, x, blocks) = (self.x.len(), &self.order, &self.scaled, &mut self.blocks);
        blocks.clear(n, order.len());
        for v in 0..n {
            if self.pools.tight[v] {
                blocks.link(order, self.pools.edge[v] as usize);
            }
        }
        blocks.work = self.spent;
        let budget = FLOOR + PATIENCE * (n + order.len()) as u64;
        loop {
            let mut changed = false;
            for e in 0..order.len() {
                if blocks.gap(order, e, scale) > self.slack {
                    changed = true;
                    if !blocks.add(order, x, e, scale, budget) {
                        return Err(Unfinished);
                    }
                }
            }
            blocks.work += order.len() as u64;
            if !changed {
                break;
            }
        }
        Ok(self.parts(scale))
    }

    fn parts(&mut self, scale: f64) -> Parts {
        let x = &self.x;
        let mut parts = Parts { mean: 0.0, lift: 0.0 };
        self.blocks.each(&self.order, scale, |rows, offset| {
            let n = rows.len() as f64;
            let (mean, middle) = (sum(rows, x).over(n).round(), offset.iter().fold(Wide::ZERO, add).over(n));
            parts.mean += n * mean * mean;
            parts.lift += offset.iter().map(|&o| (o - middle).round().powi(2)).sum::<f64>();
        });
        parts
    }

    /// The projection of `t x`, whose blocks are those of the last call of `solve`.
    fn write(&mut self, t: f64, scale: f64) {
        let (x, out) = (&self.x, &mut self.out);
        out.clear();
        out.resize(x.len(), 0.0);
        self.blocks.each(&self.order, scale, |rows, offset| {
            let total = sum(rows, x).times(t) - offset.iter().fold(Wide::ZERO, add);
            for (&v, &o) in rows.iter().zip(offset) {
                out[v as usize] = total.mean_above(rows.len() as f64, o).round();
            }
        });
    }
}

fn add(a: Wide, &b: &Wide) -> Wide {
    a + b
}

fn sum(rows: &[u32], x: &[f64]) -> Wide {
    rows.iter().fold(Wide::ZERO, |s, &v| s + Wide::from(x[v as usize]))
}

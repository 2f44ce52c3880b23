//! The nearest values that are in a given order: isotonic regression on any acyclic order, group by group.
//!
//! `min |a - x|^2 / 2` with `a[i] + margin <= a[j]` for each edge `(i, j)`, and if asked `|a| <= radius` (ball) or
//! `|a| = radius` (sphere). With a norm the solution is the projection of a multiple of the input, `P(t x)`, whose
//! length never falls with `t`.

use rayon::prelude::*;

use crate::error::{Error, Result, check_len};
use crate::groups::Groups;
use crate::par::{Par, balanced};
use crate::real::Real;
use order::Order;
use solver::Solver;

mod blocks;
mod forest;
mod order;
mod solver;
mod wide;

#[cfg(test)]
mod tests;

const NONE: u32 = u32::MAX;
/// Squares and twice the precision need room below the largest float64.
const LARGEST: f64 = 1e140;

/// What holds for the length of a group's values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Norm {
    /// Nothing.
    Free,
    /// At most the radius.
    Ball,
    /// Exactly the radius.
    Sphere,
}

/// What became of a group; the numbers are those of the public interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Status {
    /// The optimum.
    Solved = 0,
    /// No multiple of the input reaches the sphere: the projection without a norm.
    Saturated = 1,
    /// The margins alone need a longer vector than the radius allows: the shortest vector in order.
    Infeasible = 2,
    /// The budget of work ran out: the best so far, not in order.
    Unfinished = 3,
}

/// One number for all, or one for each.
#[derive(Debug, Clone, Copy)]
pub enum Each<'a> {
    /// For all.
    One(f64),
    /// For each.
    Many(&'a [f64]),
}

impl Each<'_> {
    fn at(&self, k: usize) -> f64 {
        match self {
            Self::One(v) => *v,
            Self::Many(v) => v[k],
        }
    }

    fn check(&self, arg: &'static str, n: usize, why: &'static str, positive: bool) -> Result<()> {
        let bad = |v: f64| !(0.0..=LARGEST).contains(&v) || (positive && v == 0.0);
        let expected = format!("finite and {}", if positive { "positive" } else { "not negative" });
        match self {
            Self::One(v) if bad(*v) => Err(Error::Range { arg, expected, got: format!("{v}") }),
            Self::One(_) => Ok(()),
            Self::Many(v) => {
                check_len(arg, v.len(), n, why)?;
                match v.iter().position(|&v| bad(v)) {
                    Some(k) => Err(Error::Range { arg, expected, got: format!("{} at index {k}", v[k]) }),
                    None => Ok(()),
                }
            }
        }
    }
}

/// Edges from rows to rows that must be greater by a margin.
#[derive(Debug, Clone, Copy)]
pub struct Edges<'a> {
    /// Lesser rows.
    pub from: &'a [i64],
    /// Greater rows.
    pub to: &'a [i64],
    /// How much greater.
    pub margin: Each<'a>,
}

/// The nearest values in order, and what became of each group. `radius` defaults to the root of a group's size.
///
/// # Errors
/// [`Error::Length`], [`Error::Range`], [`Error::NonFinite`]; [`Error::Structure`] for edges between groups, of a row
/// with itself, or in a circle.
pub fn order_project<T: Real>(
    groups: &Groups,
    x: &[T],
    edges: Edges<'_>,
    norm: Norm,
    radius: Option<Each<'_>>,
    par: Par,
) -> Result<(Vec<f64>, Vec<Status>)> {
    check_len("x", x.len(), groups.len(), "len(groups)")?;
    if let Some(index) = x.iter().position(|v| !v.wide().is_finite()) {
        let fix = "no order holds for such a number; leave the row out";
        return Err(Error::NonFinite { arg: "x", index, value: x[index].wide(), fix });
    }
    if let Some(k) = x.iter().position(|v| v.wide().abs() > LARGEST) {
        let got = format!("{} at index {k}", x[k].wide());
        return Err(Error::Range { arg: "x", expected: format!("at most {LARGEST:e} in size"), got });
    }
    edges.margin.check("margin", edges.from.len(), "the number of edges", false)?;
    if let Some(radius) = radius {
        radius.check("radius", groups.n_groups(), "n_groups", true)?;
    }
    let (starts, sorted) = by_group(groups, edges)?;
    let mut place = vec![0u32; x.len()];
    for g in 0..groups.n_groups() {
        for (k, &row) in groups.rows(g).iter().enumerate() {
            place[row as usize] = k as u32;
        }
    }
    // A float32 that was centred has a mean of its own rounding, not of that of float64.
    let rounding = 16.0 * if size_of::<T>() == 4 { f64::from(f32::EPSILON) } else { f64::EPSILON };

    let work: Vec<usize> = (0..=groups.n_groups()).map(|g| groups.offsets()[g] + starts[g]).collect();
    let bounds = match par {
        Par::Serial => vec![0, groups.n_groups()],
        Par::Threads => balanced(&work, 8 * rayon::current_num_threads()),
    };
    let piece = |k: usize| -> Result<(Vec<f64>, Vec<Status>)> {
        let mut solver = Solver::default();
        let (mut values, mut status) = (Vec::new(), Vec::new());
        for g in bounds[k]..bounds[k + 1] {
            let rows = groups.rows(g);
            solver.x.clear();
            solver.x.extend(rows.iter().map(|&r| x[r as usize].wide()));
            load(&mut solver.order, &sorted[starts[g]..starts[g + 1]], edges, &place);
            solver.order.sort(rows.len()).map_err(|cycle| circle(&cycle, rows))?;
            let radius = radius.map_or_else(|| (rows.len() as f64).sqrt(), |r| r.at(g));
            status.push(solver.run(norm, radius, rounding));
            values.extend_from_slice(&solver.out);
        }
        Ok((values, status))
    };
    let pieces = bounds.len() - 1;
    let done: Vec<_> = match par {
        Par::Serial => (0..pieces).map(piece).collect(),
        Par::Threads => (0..pieces).into_par_iter().map(piece).collect(),
    };
    let (mut out, mut status) = (vec![0.0; x.len()], Vec::with_capacity(groups.n_groups()));
    let mut rows = groups.order().iter();
    for part in done {
        let (values, statuses) = part?;
        status.extend(statuses);
        for (value, &row) in values.into_iter().zip(&mut rows) {
            out[row as usize] = value;
        }
    }
    Ok((out, status))
}

fn load(order: &mut Order, numbers: &[u32], edges: Edges<'_>, place: &[u32]) {
    order.clear();
    for &e in numbers {
        let e = e as usize;
        let (from, to) = (place[edges.from[e] as usize], place[edges.to[e] as usize]);
        order.push(from, to, edges.margin.at(e));
    }
}

/// Numbers of the edges sorted by group, and where each group starts among them.
fn by_group(groups: &Groups, edges: Edges<'_>) -> Result<(Vec<usize>, Vec<u32>)> {
    let fail = |reason| Err(Error::Structure { arg: "edges", reason });
    check_len("edges", edges.to.len(), edges.from.len(), "len(edges[0])")?;
    // Two slots an edge are numbered, too.
    if edges.from.len() as u64 >= u64::from(NONE) / 2 {
        let limit = u64::from(NONE) / 2 - 1;
        return Err(Error::TooLarge { arg: "edges", limit, got: edges.from.len() as u64 });
    }
    let (n, index) = (groups.len(), groups.index());
    let mut starts = vec![0usize; groups.n_groups() + 1];
    for (e, (&i, &j)) in edges.from.iter().zip(edges.to).enumerate() {
        let known = |v: i64| usize::try_from(v).ok().filter(|&v| v < n);
        let (Some(a), Some(b)) = (known(i), known(j)) else {
            let got = if known(i).is_none() { i } else { j };
            return fail(format!("must name rows from 0 to {}, got {got} in edge {e}", n as i64 - 1));
        };
        if a == b {
            return fail(format!("must join different rows, got row {a} with itself in edge {e}"));
        }
        if index[a] != index[b] {
            let (g, h) = (index[a], index[b]);
            let what = format!("edge {e} from row {a} of group {g} to row {b} of group {h}");
            return fail(format!(
                "must stay within groups, got {what} (in order of first appearance); leave it out"
            ));
        }
        starts[index[a] as usize + 1] += 1;
    }
    for g in 0..groups.n_groups() {
        starts[g + 1] += starts[g];
    }
    let mut next = starts.clone();
    let mut sorted = vec![0u32; edges.from.len()];
    for (e, &i) in edges.from.iter().enumerate() {
        let slot = &mut next[index[i as usize] as usize];
        sorted[*slot] = e as u32;
        *slot += 1;
    }
    Ok((starts, sorted))
}

fn circle(cycle: &[u32], rows: &[u32]) -> Error {
    let mut names: Vec<String> = cycle.iter().take(8).map(|&v| rows[v as usize].to_string()).collect();
    if cycle.len() > 8 {
        names.push(format!("... ({} rows)", cycle.len()));
    }
    names.push(rows[cycle[0] as usize].to_string());
    let reason =
        format!("must not go in a circle, got rows {}; take one of its edges out", names.join(" -> "));
    Error::Structure { arg: "edges", reason }
}

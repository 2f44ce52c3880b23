//! The optimal token baseline: at each token the mean return of the group, weighted by how much gradient the rollouts
//! have gathered so far. Work and memory go with the tokens; nothing is as wide as the longest row times the rows.

use std::cmp::Ordering;
use std::ops::Range;

use super::{Flaw, GapReward, Rewards, Rule, any_nonzero, check_rewards, first_flaw, gap_rewards};
use crate::error::{Result, check_len};
use crate::groups::Groups;
use crate::layout::Layout;
use crate::moments::clear_gaps;
use crate::par::{Par, balanced, for_pieces};
use crate::real::Real;

/// What the weights are made of: `(1 - 2 exp(logprob) + sum_pi_squared) * importance^2` at each token.
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy)]
pub struct Energy<'a, T> {
    pub logprobs: &'a [T],
    pub sum_pi_squared: &'a [T],
    pub importance: Option<&'a [T]>,
}

/// Choices of [`optimal_token_baseline`].
#[derive(Debug, Clone, Copy)]
pub struct Choices {
    /// Rollouts are compared at equal numbers of trained tokens, not at equal positions.
    pub by_trained: bool,
    /// Where only the longest rollout is left its baseline is 0, instead of its own return.
    pub zero_tail: bool,
    /// Added to the sum of weights.
    pub eps: f64,
    /// The baseline of the only rollout of a group: 0, or its own return (so that it gets 0).
    pub lone_keeps_return: bool,
}

/// Rows of one call with their trained runs and gap rewards.
struct Job<'a, T> {
    layout: &'a Layout,
    rewards: Rewards<'a, T>,
    energy: Energy<'a, T>,
    rule: Rule<'a>,
    choices: Choices,
}

/// Scratch of one worker.
#[derive(Default)]
struct Scratch {
    spans: Vec<Range<usize>>,
    extra: Vec<f64>,
    returns: Vec<f64>,
    /// Instead of `returns`, where all are equal.
    constant: Option<f64>,
    energy: Vec<f64>,
}

/// `A_t = G_t - sum_i G_it W_it / (sum_i W_it + eps)` over the rows of a group that have a token there, with `G` the sum
/// of rewards to come and `W` the running sum of the weights of `energy`. Writes to `out`, 0 at gaps and padding.
///
/// # Errors
/// [`crate::Error`] naming the argument, as for [`super::gae`].
#[allow(clippy::too_many_arguments)]
pub fn optimal_token_baseline<T: Real>(
    layout: &Layout,
    groups: &Groups,
    rewards: Rewards<'_, T>,
    energy: Energy<'_, T>,
    rule: Rule<'_>,
    choices: Choices,
    out: &mut [T],
    par: Par,
) -> Result<()> {
    check_len("groups", groups.len(), layout.rows(), "the number of rows")?;
    layout.check("logprobs", energy.logprobs.len())?;
    layout.check("sum_pi_squared", energy.sum_pi_squared.len())?;
    energy.importance.map_or(Ok(()), |w| layout.check("is_weights", w.len()))?;
    layout.check("out", out.len())?;
    check_rewards(layout, rewards)?;
    rule.check(layout)?;
    let job = Job { layout, rewards, energy, rule, choices };

    // Width of each group's baseline, then all of them in one buffer.
    let mut widths = vec![0usize; layout.rows()];
    layout.for_pieces(par, [] as [&mut [T]; 0], &mut widths, |piece| {
        let mut spans = Vec::new();
        for (slot, row) in piece.per_row.iter_mut().zip(piece.rows) {
            layout.spans(row, rule.mask, &mut spans);
            *slot = job.width(&spans);
        }
    });
    let mut starts = vec![0usize; groups.n_groups() + 1];
    // The two largest widths of each group: beyond the second the widest row is alone.
    let mut tops = vec![(0usize, 0usize); groups.n_groups()];
    for g in 0..groups.n_groups() {
        for &r in groups.rows(g) {
            let (first, second, w) = (tops[g].0, tops[g].1, widths[r as usize]);
            tops[g] = if w > first { (w, first) } else { (first, second.max(w)) };
        }
        starts[g + 1] = starts[g] + tops[g].0;
    }
    let mut baselines = vec![0.0f64; starts[groups.n_groups()]];
    let pieces = if par == Par::Threads { 8 * rayon::current_num_threads() } else { 1 };
    let bounds = balanced(&starts, pieces);
    let cuts: Vec<usize> = bounds.iter().map(|&g| starts[g]).collect();
    for_pieces(par, &mut baselines, &cuts, |piece, part| {
        let mut sums = Sums::default();
        for g in bounds[piece]..bounds[piece + 1] {
            let at = starts[g] - cuts[piece]..starts[g + 1] - cuts[piece];
            job.baseline(groups.rows(g), &widths, &mut part[at], &mut sums);
        }
    });

    let mut flaws = vec![Flaw::None; layout.rows()];
    layout.for_pieces(par, [out], &mut flaws, |piece| {
        let [out] = piece.outs;
        let mut scratch = Scratch::default();
        for (flaw, row) in piece.per_row.iter_mut().zip(piece.rows) {
            let slot = layout.slot(row);
            let target = &mut out[slot.start - piece.base..slot.end - piece.base];
            let g = groups.index()[row] as usize;
            let others = if widths[row] == tops[g].0 { tops[g].1 } else { tops[g].0 };
            let alone = others == 0;
            *flaw = job.returns(row, rule.gap_reward, &mut scratch);
            if *flaw != Flaw::None {
                continue;
            }
            clear_gaps(target, &scratch.spans);
            let base = &baselines[starts[g]..starts[g + 1]];
            let zero_from = if choices.zero_tail { others } else { usize::MAX };
            let mut finite = true;
            let mut k = 0;
            for span in &scratch.spans {
                let n = span.len();
                let at = if choices.by_trained { k } else { span.start };
                // Baselines of the group, then the zero tail.
                let cut = if alone { 0 } else { zero_from.clamp(at, at + n) - at };
                let (head, tail) = target[span.clone()].split_at_mut(cut);
                let base = base[at..at + cut].iter().copied();
                if alone && !choices.lone_keeps_return {
                    tail.fill(T::narrow(0.0));
                } else if let Some(own) = scratch.constant {
                    finite &= subtract(head, std::iter::repeat(own), base);
                    finite &= subtract(tail, std::iter::repeat(own), std::iter::repeat(0.0));
                } else {
                    let own = scratch.returns[k..k + n].iter().copied();
                    finite &= subtract(head, own.clone(), base);
                    finite &= subtract(tail, own.skip(cut), std::iter::repeat(0.0));
                }
                k += n;
            }
            if !finite {
                *flaw = Flaw::NotFinite;
            }
        }
    });
    let mut looked = vec![("logprobs", energy.logprobs), ("sum_pi_squared", energy.sum_pi_squared)];
    looked.extend(energy.importance.map(|w| ("is_weights", w)));
    // A number that is not finite spoils its whole group: the row to blame is the one that holds it.
    let blamed = flaws.iter().enumerate().position(|(row, flaw)| match flaw {
        Flaw::None => false,
        Flaw::NotFinite => job.holds_bad(row, &looked),
        _ => true,
    });
    if let Some(row) = blamed {
        flaws[..row].fill(Flaw::None);
    }
    first_flaw(layout, rewards, &looked, &rule, flaws.into_iter())
}

/// `out = own - base`; true if all of it is finite.
fn subtract<T: Real>(out: &mut [T], own: impl Iterator<Item = f64>, base: impl Iterator<Item = f64>) -> bool {
    let mut finite = true;
    for ((slot, own), base) in out.iter_mut().zip(own).zip(base) {
        let a = own - base;
        finite &= a.is_finite();
        *slot = T::narrow(a);
    }
    finite
}

/// Sums of a group at each place.
#[derive(Default)]
struct Sums {
    rows: Vec<usize>,
    weights: Vec<f64>,
    low: Vec<f64>,
    high: Vec<f64>,
    scratch: Scratch,
}

impl<T: Real> Job<'_, T> {
    fn width(&self, spans: &[Range<usize>]) -> usize {
        if self.choices.by_trained {
            spans.iter().map(Range::len).sum()
        } else {
            spans.last().map_or(0, |s| s.end)
        }
    }

    /// Rewards to come at each trained token of a row, into `scratch.returns`.
    fn returns(&self, row: usize, gap_reward: GapReward, scratch: &mut Scratch) -> Flaw {
        let at = self.layout.row(row);
        self.layout.spans(row, self.rule.mask, &mut scratch.spans);
        let n: usize = scratch.spans.iter().map(Range::len).sum();
        scratch.returns.clear();
        scratch.constant = None;
        match self.rewards {
            Rewards::Rows(r) => {
                if n == 0 && r[row] != 0.0 && gap_reward != GapReward::Drop {
                    return Flaw::NoToken;
                }
                // The same at every token.
                scratch.constant = Some(r[row]);
            }
            Rewards::Tokens(r) => {
                scratch.extra.clear();
                scratch.extra.resize(scratch.spans.len(), 0.0);
                if self.rule.mask.is_some() {
                    let flaw = gap_rewards(&r[at.clone()], &scratch.spans, gap_reward, &mut scratch.extra);
                    if flaw != Flaw::None {
                        return flaw;
                    }
                }
                scratch.returns.resize(n, 0.0);
                let (mut sum, mut to) = (0.0, n);
                for (span, extra) in scratch.spans.iter().zip(&scratch.extra).rev() {
                    sum += extra;
                    let from = to - span.len();
                    let rewards = &r[at.start + span.start..at.start + span.end];
                    // Most tokens have no reward of their own.
                    for (sums, part) in scratch.returns[from..to].rchunks_mut(64).zip(rewards.rchunks(64)) {
                        if any_nonzero(part) {
                            for (g, r) in sums.iter_mut().zip(part).rev() {
                                sum += r.wide();
                                *g = sum;
                            }
                        } else {
                            sums.fill(sum);
                        }
                    }
                    to = from;
                }
            }
        }
        Flaw::None
    }

    /// Running weights of a run of tokens, from `running` on, into `energy`.
    fn energies(&self, at: Range<usize>, running: &mut f64, energy: &mut Vec<f64>) {
        energy.clear();
        let own = self.energy.logprobs[at.clone()].iter().zip(&self.energy.sum_pi_squared[at.clone()]);
        let weight = |(logprob, squares): (&T, &T)| 1.0 - 2.0 * logprob.wide().exp() + squares.wide();
        match self.energy.importance {
            None => energy.extend(own.map(weight)),
            Some(rho) => {
                energy.extend(own.zip(&rho[at]).map(|(pair, rho)| weight(pair) * rho.wide() * rho.wide()));
            }
        }
        for w in energy {
            *running += *w;
            *w = *running;
        }
    }

    fn baseline(&self, members: &[u32], widths: &[usize], out: &mut [f64], sums: &mut Sums) {
        let Sums { rows, weights, low, high, scratch } = sums;
        rows.clear();
        rows.extend(members.iter().map(|&r| r as usize).filter(|&r| widths[r] > 0));
        if rows.len() < 2 {
            return;
        }
        // Sums over rows that are sorted by what they hold do not depend on the order in which they came.
        rows.sort_by(|&a, &b| self.compare(a, b, widths));
        out.fill(0.0);
        // Where one return a row is compared at places that every row fills from the first, the rows alive at a place
        // are the widest ones: from the width of the last other row on, all returns are that of the widest.
        let alike_from = match self.rewards {
            Rewards::Rows(r) if self.choices.by_trained || self.rule.mask.is_none() => {
                let widest = rows.iter().copied().max_by_key(|&row| widths[row]).map_or(0.0, |row| r[row]);
                let other = rows.iter().filter(|&&row| r[row] != widest).map(|&row| widths[row]).max();
                Some((other.unwrap_or(0), widest))
            }
            _ => None,
        };
        let none = if alike_from.is_some() { 0 } else { out.len() };
        for (buffer, size, start) in [
            (&mut *weights, out.len(), 0.0),
            (&mut *low, none, f64::INFINITY),
            (&mut *high, none, -f64::INFINITY),
        ] {
            buffer.clear();
            buffer.resize(size, start);
        }
        // Whether a gap has a reward is found when the row itself is done; once is enough.
        let gap_reward = match self.rule.gap_reward {
            GapReward::Raise => GapReward::Drop,
            other => other,
        };
        for &row in rows.iter() {
            if self.returns(row, gap_reward, scratch) != Flaw::None {
                continue;
            }
            let start = self.layout.row(row).start;
            let (mut running, mut k) = (0.0, 0);
            for span in &scratch.spans {
                let n = span.len();
                self.energies(start + span.start..start + span.end, &mut running, &mut scratch.energy);
                let at = if self.choices.by_trained { k } else { span.start };
                let places = at..at + n;
                let sums =
                    out[places.clone()].iter_mut().zip(&mut weights[places.clone()]).zip(&scratch.energy);
                if let Some(g) = scratch.constant {
                    for ((b, weight), w) in sums {
                        *b += g * w;
                        *weight += w;
                    }
                } else {
                    for (((b, weight), w), g) in sums.zip(&scratch.returns[k..k + n]) {
                        *b += g * w;
                        *weight += w;
                    }
                }
                if alike_from.is_none() {
                    let own = |t: usize| scratch.constant.unwrap_or_else(|| scratch.returns[k + t]);
                    let bounds = low[places.clone()].iter_mut().zip(&mut high[places]);
                    for (t, (low, high)) in bounds.enumerate() {
                        let g = own(t);
                        *low = if g < *low { g } else { *low };
                        *high = if g > *high { g } else { *high };
                    }
                }
                k += n;
            }
        }
        for (place, b) in out.iter_mut().enumerate() {
            // Equal returns are their own mean, exactly. A weight that is not finite must not hide behind them.
            let alike = match alike_from {
                Some((from, widest)) => (place >= from).then_some(widest),
                None => (low[place] == high[place]).then(|| low[place]),
            };
            let total = weights[place] + self.choices.eps;
            *b = match alike {
                Some(g) if weights[place] > 0.0 && weights[place].is_finite() => g,
                _ if total == 0.0 && *b == 0.0 => 0.0,
                _ => *b / total,
            };
        }
    }

    /// An order of rows by what they hold: rows that compare equal are interchangeable.
    fn compare(&self, a: usize, b: usize, widths: &[usize]) -> Ordering {
        let mut order = widths[a].cmp(&widths[b]);
        if let Rewards::Rows(r) = self.rewards {
            order = order.then_with(|| r[a].total_cmp(&r[b]));
        }
        order.then_with(|| {
            let (mut left, mut right) = (Vec::new(), Vec::new());
            self.layout.spans(a, self.rule.mask, &mut left);
            self.layout.spans(b, self.rule.mask, &mut right);
            let (x, y) = (self.layout.row(a).start, self.layout.row(b).start);
            let places = |spans: Vec<Range<usize>>, start: usize| {
                spans.into_iter().flat_map(move |s| s.map(move |t| (t, start + t)))
            };
            for ((t, i), (u, j)) in places(left, x).zip(places(right, y)) {
                let one = |x: &[T]| x[i].wide().total_cmp(&x[j].wide());
                let mut order = one(self.energy.logprobs).then_with(|| one(self.energy.sum_pi_squared));
                if let Some(rho) = self.energy.importance {
                    order = order.then_with(|| one(rho));
                }
                if let Rewards::Tokens(r) = self.rewards {
                    order = order.then_with(|| one(r));
                }
                if !self.choices.by_trained {
                    order = order.then(t.cmp(&u));
                }
                if order != Ordering::Equal {
                    return order;
                }
            }
            let Rewards::Tokens(r) = self.rewards else { return Ordering::Equal };
            // What is left are rewards at gaps, which may have been moved.
            let (p, q) = (&r[self.layout.row(a)], &r[self.layout.row(b)]);
            let differ = p.iter().zip(q).map(|(x, y)| x.wide().total_cmp(&y.wide()));
            let spans = |row: usize| {
                let mut into = Vec::new();
                self.layout.spans(row, self.rule.mask, &mut into);
                into.into_iter().map(|s| (s.start, s.end))
            };
            // Where the gaps lie decides which of them are moved where.
            differ
                .fold(Ordering::Equal, Ordering::then)
                .then(p.len().cmp(&q.len()))
                .then_with(|| spans(a).cmp(spans(b)))
        })
    }

    fn holds_bad(&self, row: usize, looked: &[(&'static str, &[T])]) -> bool {
        let at = self.layout.row(row);
        let trained = |i: &usize| self.rule.mask.is_none_or(|m| m[*i] != 0);
        let bad = |x: &[T]| at.clone().filter(trained).any(|i| !x[i].wide().is_finite());
        looked.iter().any(|(_, x)| bad(x))
            || match self.rewards {
                Rewards::Tokens(r) => bad(r),
                Rewards::Rows(r) => !r[row].is_finite(),
            }
    }
}

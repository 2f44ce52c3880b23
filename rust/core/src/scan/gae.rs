//! Generalised advantage estimation, TD(lambda) returns and discounted returns: one scan in several forms.

use std::ops::Range;

use super::kernel::{self, Carry, Coefficients, Form, Streams};
use super::{
    Bootstrap, Flaw, GapReward, Gaps, PerRow, Rewards, Rule, check_rewards, first_flaw, gap_rewards,
};
use crate::error::Result;
use crate::layout::{Layout, Piece};
use crate::moments::{Part, clear_gaps, part};
use crate::par::Par;
use crate::real::Real;

/// Discount and decay of advantages and, if it differs, of returns.
#[derive(Debug, Clone, Copy)]
pub struct Scan<'a> {
    /// Discount, in [0, 1].
    pub gamma: f64,
    /// Decay of the advantages, in [0, 1].
    pub lam: PerRow<'a>,
    /// Decay of the returns; that of the advantages by default.
    pub lam_returns: Option<PerRow<'a>>,
    /// Also take the moments of the advantages of each row.
    pub moments: bool,
}

/// Where results go; 0 at gaps and padding.
pub struct Outputs<'a, T> {
    /// Advantages, if wanted.
    pub advantages: Option<&'a mut [T]>,
    /// Returns: advantages (by the lambda of returns) plus values.
    pub returns: &'a mut [T],
}

/// `A_t = delta_t + gamma lambda A_{t+1}`, `delta_t = r_t + gamma V_{t+1} - V_t`, over the trained tokens of each row;
/// returns `A_t + V_t`. The parts are those of the advantages, or defaults unless `scan.moments`.
///
/// # Errors
/// [`crate::Error`] naming the argument: wrong lengths, a number outside its range, what is not finite, a reward where
/// the mask is 0. The outputs may then hold anything.
pub fn gae<T: Real>(
    layout: &Layout,
    rewards: Rewards<'_, T>,
    values: &[T],
    rule: Rule<'_>,
    scan: Scan<'_>,
    out: Outputs<'_, T>,
    par: Par,
) -> Result<Vec<Part>> {
    layout.check("values", values.len())?;
    scan.lam.check("lam", layout.rows())?;
    scan.lam_returns.map_or(Ok(()), |l| l.check("lam_returns", layout.rows()))?;
    let job = Job { layout, rewards, values, rule, scan };
    let tokens = matches!(rewards, Rewards::Tokens(_));
    let Outputs { advantages, returns } = out;
    layout.check("out", returns.len())?;
    match (advantages, scan.lam_returns, tokens) {
        (Some(a), None, true) => job.run::<kernel::Gae>([a, returns], par),
        (Some(a), None, false) => job.run::<kernel::GaeOfRows>([a, returns], par),
        (Some(a), Some(_), true) => job.run::<kernel::GaeTwo>([a, returns], par),
        (Some(a), Some(_), false) => job.run::<kernel::GaeTwoOfRows>([a, returns], par),
        (None, _, true) => job.run::<kernel::TdLambda>([&mut [], returns], par),
        (None, _, false) => job.run::<kernel::TdLambdaOfRows>([&mut [], returns], par),
    }
}

/// `G_t = r_t + gamma G_{t+1}` over the trained tokens of each row. `scan.lam` has no part.
///
/// # Errors
/// As [`gae`].
pub fn discounted_returns<T: Real>(
    layout: &Layout,
    rewards: Rewards<'_, T>,
    rule: Rule<'_>,
    scan: Scan<'_>,
    out: &mut [T],
    par: Par,
) -> Result<Vec<Part>> {
    let scan = Scan { lam: PerRow::One(1.0), lam_returns: None, ..scan };
    layout.check("out", out.len())?;
    let job = Job { layout, rewards, values: &[], rule, scan };
    match rewards {
        Rewards::Tokens(_) => job.run::<kernel::Discounted>([out, &mut []], par),
        Rewards::Rows(_) => job.run::<kernel::DiscountedOfRows>([out, &mut []], par),
    }
}

#[derive(Clone, Copy)]
struct Job<'a, T> {
    layout: &'a Layout,
    rewards: Rewards<'a, T>,
    values: &'a [T],
    rule: Rule<'a>,
    scan: Scan<'a>,
}

impl<T: Real> Job<'_, T> {
    fn run<F: Form>(self, outs: [&mut [T]; 2], par: Par) -> Result<Vec<Part>> {
        check_rewards(self.layout, self.rewards)?;
        self.rule.check(self.layout)?;
        PerRow::One(self.scan.gamma).check("gamma", 0)?;
        let [advantages, returns] = outs;
        if F::ADVANTAGES {
            self.layout.check("out", advantages.len())?;
        }
        let mut rows = vec![(Flaw::None, Part::default()); self.layout.rows()];
        self.layout.for_pieces(par, [advantages, returns], &mut rows, |piece| self.piece::<F>(piece));
        let values: &[(&'static str, &[T])] = &[("values", self.values)];
        let looked = if F::VALUES { values } else { &[] };
        first_flaw(self.layout, self.rewards, looked, &self.rule, rows.iter().map(|r| r.0))?;
        Ok(rows.into_iter().map(|r| r.1).collect())
    }

    fn piece<F: Form>(&self, piece: Piece<'_, T, (Flaw, Part), 2>) {
        let [advantages, returns] = piece.outs;
        let rewards = match self.rewards {
            Rewards::Tokens(r) => r,
            Rewards::Rows(_) => &[],
        };
        let mut streams = Streams { rewards, values: self.values, base: piece.base, advantages, returns };
        // Each lane walks a half of the rows backwards, as it walks each row: one stream through memory.
        let mid = self.layout.middle(piece.rows.clone());
        let (before, after) = piece.per_row.split_at_mut(mid - piece.rows.start);
        let mut a = Lane::new(piece.rows.start..mid, before);
        let mut b = Lane::new(mid..piece.rows.end, after);
        let (mut a_live, mut b_live) =
            (a.advance::<T, F>(self, &mut streams), b.advance::<T, F>(self, &mut streams));
        while a_live || b_live {
            if a_live && b_live {
                let n = a.run.len().min(b.run.len());
                let (p, q) = (&mut a, &mut b);
                streams.run_two::<F>(
                    (p.run.clone(), q.run.clone()),
                    (&mut p.carry, &mut q.carry),
                    (p.by, q.by),
                );
                p.run.end -= n;
                q.run.end -= n;
            } else {
                let lane = if a_live { &mut a } else { &mut b };
                streams.run::<F>(lane.run.clone(), &mut lane.carry, lane.by);
                lane.run.end = lane.run.start;
            }
            if a_live && a.run.is_empty() {
                a_live = a.advance::<T, F>(self, &mut streams);
            }
            if b_live && b.run.is_empty() {
                b_live = b.advance::<T, F>(self, &mut streams);
            }
        }
    }
}

/// Rows that wait, where a finished row leaves its result, and a row on its way from its last token to its first.
struct Lane<'a> {
    rows: Range<usize>,
    first: usize,
    done: &'a mut [(Flaw, Part)],
    row: Option<usize>,
    /// Runs of tokens that the scan visits, relative to the row; those before `left` are to come.
    spans: Vec<Range<usize>>,
    /// What the last token of each run gets besides its reward.
    extra: Vec<f64>,
    left: usize,
    /// The rest of the current run, in the flat arrays.
    run: Range<usize>,
    carry: Carry,
    by: Coefficients,
}

impl<'a> Lane<'a> {
    fn new(rows: Range<usize>, done: &'a mut [(Flaw, Part)]) -> Self {
        Self {
            first: rows.start,
            rows,
            done,
            row: None,
            spans: Vec::new(),
            extra: Vec::new(),
            left: 0,
            run: 0..0,
            carry: Carry::default(),
            by: Coefficients::default(),
        }
    }

    /// Goes on to the next run with more than one token, in the next rows if need be; false if there is none.
    fn advance<T: Real, F: Form>(&mut self, job: &Job<'_, T>, streams: &mut Streams<'_, T>) -> bool {
        loop {
            if let Some(row) = self.row {
                let start = job.layout.row(row).start;
                while let Some(k) = self.left.checked_sub(1) {
                    self.left = k;
                    let span = self.spans[k].clone();
                    let to = self.spans.get(k + 1).map_or(job.layout.row(row).len(), |next| next.start);
                    self.gap(job.rule.gaps, to - span.end);
                    streams.one::<F>(start + span.end - 1, self.extra[k], &mut self.carry, self.by);
                    self.run = start + span.start..start + span.end - 1;
                    if !self.run.is_empty() {
                        return true;
                    }
                }
                self.done[row - self.first] = self.finish::<T, F>(job, streams, row);
                self.row = None;
            }
            let Some(row) = self.rows.next_back() else { return false };
            let flaw = self.load::<T, F>(job, row);
            if flaw == Flaw::None {
                self.row = Some(row);
            } else {
                self.done[row - self.first].0 = flaw;
            }
        }
    }

    fn gap(&mut self, gaps: Gaps, n: usize) {
        let c = &mut self.carry;
        match gaps {
            Gaps::State if n > 0 => {
                c.advantage = self.by.gamma * c.next_value + self.by.decay * c.advantage;
                c.for_returns = self.by.gamma * c.next_value + self.by.decay_returns * c.for_returns;
                c.next_value = 0.0;
                for _ in 1..n {
                    c.advantage *= self.by.decay;
                    c.for_returns *= self.by.decay_returns;
                }
            }
            // A carry that is not finite stays, to be found at the end of the row.
            Gaps::Cut if n > 0 && c.advantage.is_finite() => *c = Carry::default(),
            _ => {}
        }
    }

    fn load<T: Real, F: Form>(&mut self, job: &Job<'_, T>, row: usize) -> Flaw {
        let (layout, rule, at) = (job.layout, &job.rule, job.layout.row(row));
        layout.spans(row, rule.mask, &mut self.spans);
        let last = self.spans.last().map(|s| s.end);
        let flaw = match job.rewards {
            Rewards::Tokens(r) if rule.gaps != Gaps::Ignore && rule.mask.is_some() => {
                gap_rewards(&r[at.clone()], &self.spans, rule.gap_reward, &mut self.extra)
            }
            Rewards::Rows(r) if last.is_none() && r[row] != 0.0 && rule.gap_reward != GapReward::Drop => {
                Flaw::NoToken
            }
            _ => Flaw::None,
        };
        if flaw != Flaw::None {
            return flaw;
        }
        if rule.gaps == Gaps::Ignore {
            // The whole row, in two runs where the second begins after the token that gets the reward of the row.
            let cut = last.filter(|_| !F::REWARDS).unwrap_or(at.len());
            self.spans.clear();
            self.spans.extend([0..cut, cut..at.len()].into_iter().filter(|s| !s.is_empty()));
        }
        self.extra.resize(self.spans.len(), 0.0);
        if rule.mask.is_none() || rule.gaps == Gaps::Ignore {
            self.extra.fill(0.0);
        }
        if let Rewards::Rows(r) = job.rewards {
            self.extra.fill(0.0);
            let place = last.and_then(|end| self.spans.iter().position(|s| s.end == end));
            if let Some(k) = place {
                self.extra[k] = r[row];
            }
        }
        self.left = self.spans.len();
        let scan = &job.scan;
        let decay = |lam: PerRow<'_>| scan.gamma * lam.at(row);
        let decay_advantages = decay(scan.lam);
        self.by = Coefficients {
            gamma: scan.gamma,
            decay: decay_advantages,
            decay_returns: scan.lam_returns.map_or(decay_advantages, decay),
        };
        let end = match rule.bootstrap {
            _ if !rule.applies(row) => 0.0,
            Bootstrap::Zero => 0.0,
            Bootstrap::Given(values) => values[row],
            Bootstrap::Last => match self.spans.last() {
                Some(span) if F::VALUES => job.values[at.start + span.end - 1].wide(),
                _ => 0.0,
            },
        };
        self.carry = if F::VALUES {
            Carry { next_value: end, ..Carry::default() }
        } else {
            // Without values the return after the last token is all there is to bootstrap.
            Carry { advantage: end, ..Carry::default() }
        };
        Flaw::None
    }

    fn finish<T: Real, F: Form>(
        &mut self,
        job: &Job<'_, T>,
        streams: &mut Streams<'_, T>,
        row: usize,
    ) -> (Flaw, Part) {
        if job.rule.gaps == Gaps::Ignore {
            job.layout.spans(row, job.rule.mask, &mut self.spans);
        }
        let slot = job.layout.slot(row);
        let slot = slot.start - streams.base..slot.end - streams.base;
        let mut moments = Part::default();
        if F::ADVANTAGES {
            let out = &mut streams.advantages[slot.clone()];
            clear_gaps(out, &self.spans);
            if job.scan.moments {
                moments = part(out, &self.spans);
            }
        }
        if F::RETURNS {
            clear_gaps(&mut streams.returns[slot], &self.spans);
        }
        // What is not finite stays in the carry until the first token.
        let c = self.carry;
        let finite = c.advantage.is_finite() && c.next_value.is_finite() && c.for_returns.is_finite();
        (if finite { Flaw::None } else { Flaw::NotFinite }, moments)
    }
}

//! V-trace (Espeholt et al. 2018): off-policy returns with clipped importance ratios.

use super::{
    Bootstrap, Flaw, GapReward, Gaps, PerRow, Rewards, Rule, check_rewards, first_flaw, gap_rewards,
};
use crate::error::{Error, Result};
use crate::layout::Layout;
use crate::moments::clear_gaps;
use crate::par::Par;
use crate::real::Real;

/// Upper bounds of the importance ratio (infinity for none).
#[allow(missing_docs)]
#[derive(Debug, Clone, Copy)]
pub struct Clips {
    pub rho: f64,
    pub c: f64,
    pub pg_rho: f64,
}

impl Clips {
    fn check(self) -> Result<()> {
        for (arg, x) in [("clip_rho", self.rho), ("clip_c", self.c), ("clip_pg_rho", self.pg_rho)] {
            if x.is_nan() || x <= 0.0 {
                return Err(Error::Range { arg, expected: "positive".into(), got: x.to_string() });
            }
        }
        Ok(())
    }
}

/// With `w_t = exp(log_ratio_t)`, `rho_t = min(clip_rho, w_t)` and `c_t = lambda min(clip_c, w_t)`:
/// `vs_t = V_t + rho_t (r_t + gamma V_{t+1} - V_t) + gamma c_t (vs_{t+1} - V_{t+1})`, and the advantage
/// `min(clip_pg_rho, w_t) (r_t + gamma vs_{t+1} - V_t)`. `outs` are advantages and returns `vs`.
///
/// # Errors
/// As [`super::gae`].
#[allow(clippy::too_many_arguments)]
pub fn vtrace<T: Real>(
    layout: &Layout,
    rewards: Rewards<'_, T>,
    values: &[T],
    log_ratios: &[T],
    rule: Rule<'_>,
    (gamma, lam): (f64, PerRow<'_>),
    clips: Clips,
    outs: [&mut [T]; 2],
    par: Par,
) -> Result<()> {
    layout.check("values", values.len())?;
    layout.check("log_ratios", log_ratios.len())?;
    outs.iter().try_for_each(|out| layout.check("out", out.len()))?;
    check_rewards(layout, rewards)?;
    rule.check(layout)?;
    PerRow::One(gamma).check("gamma", 0)?;
    lam.check("lam", layout.rows())?;
    clips.check()?;
    let mut flaws = vec![Flaw::None; layout.rows()];
    layout.for_pieces(par, outs, &mut flaws, |piece| {
        let [advantages, returns] = piece.outs;
        let (mut spans, mut trained, mut extra) = (Vec::new(), Vec::new(), Vec::new());
        for (flaw, row) in piece.per_row.iter_mut().zip(piece.rows) {
            let at = layout.row(row);
            layout.spans(row, rule.mask, &mut trained);
            extra.clear();
            match rewards {
                Rewards::Tokens(r) if rule.gaps != Gaps::Ignore && rule.mask.is_some() => {
                    *flaw = gap_rewards(&r[at.clone()], &trained, rule.gap_reward, &mut extra);
                }
                Rewards::Rows(r)
                    if trained.is_empty() && r[row] != 0.0 && rule.gap_reward != GapReward::Drop =>
                {
                    *flaw = Flaw::NoToken;
                }
                _ => {}
            }
            if *flaw != Flaw::None {
                continue;
            }
            let last = trained.last().map_or(0, |s| s.end);
            spans.clone_from(&trained);
            if rule.gaps == Gaps::Ignore {
                spans.clear();
                spans.extend(Some(0..at.len()).filter(|s| !s.is_empty()));
            }
            let end = match (rule.bootstrap, spans.last()) {
                _ if !rule.applies(row) => 0.0,
                (Bootstrap::Given(values), _) => values[row],
                (Bootstrap::Last, Some(span)) => values[at.start + span.end - 1].wide(),
                _ => 0.0,
            };
            // Value and return of the next state, and how far the two differ.
            let (mut next_value, mut next_return) = (end, end);
            let mut to = at.len();
            for (k, span) in spans.iter().enumerate().rev() {
                if rule.gaps == Gaps::State && to > span.end {
                    // States with value 0 and reward 0, on policy: the ratio of a gap is 1, or what clips it.
                    let (rho, c) = (clips.rho.min(1.0), lam.at(row) * clips.c.min(1.0));
                    for _ in span.end..to {
                        next_return = rho * gamma * next_value + gamma * c * (next_return - next_value);
                        next_value = 0.0;
                    }
                }
                for t in span.clone().rev() {
                    let i = at.start + t;
                    let (v, w) = (values[i].wide(), log_ratios[i].wide().exp());
                    let moved = if t + 1 == span.end { extra.get(k).copied().unwrap_or(0.0) } else { 0.0 };
                    let r = match rewards {
                        Rewards::Tokens(r) => r[i].wide() + moved,
                        Rewards::Rows(r) if t + 1 == last => r[row],
                        Rewards::Rows(_) => 0.0,
                    };
                    let (rho, c) = (clips.rho.min(w), lam.at(row) * clips.c.min(w));
                    let advantage = clips.pg_rho.min(w) * (r + gamma * next_return - v);
                    next_return =
                        v + rho * (r + gamma * next_value - v) + gamma * c * (next_return - next_value);
                    next_value = v;
                    advantages[i - piece.base] = T::narrow(advantage);
                    returns[i - piece.base] = T::narrow(next_return);
                    let fits = |x: f64| T::narrow(x).wide().is_finite();
                    // `min` swallows a ratio that is NaN or infinite.
                    if !(fits(advantage) && fits(next_return) && log_ratios[i].wide().is_finite()) {
                        *flaw = Flaw::NotFinite;
                    }
                }
                to = span.start;
            }
            let slot = layout.slot(row);
            for out in [&mut *advantages, &mut *returns] {
                clear_gaps(&mut out[slot.start - piece.base..slot.end - piece.base], &trained);
            }
        }
    });
    let looked: &[(&'static str, &[T])] = &[("values", values), ("log_ratios", log_ratios)];
    first_flaw(layout, rewards, looked, &rule, flaws.into_iter())
}

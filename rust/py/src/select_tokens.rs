//! Which tokens to train: exact thresholds of their scores, and the masks.

use numpy::{Element, IntoPyArray, PyArray1, PyReadonlyArray1};
use pyo3::prelude::*;
use rollmath_core::par::Par;
use rollmath_core::select::tokens::{self, Field, Top, Want};
use rollmath_core::select::tokens_count::{self, Round};
use rollmath_core::select::tokens_rows::top_of_rows;
use rollmath_core::select::tokens_score::{Float, Hashes, Plain, Product, RowProduct, Score, Scores};

use crate::args::{Floats, array1, array1_mut, floats, mask, slice};
use crate::errors::Call;
use crate::pool;
use crate::rows::Layout;

/// A random word of each row, and the positions of tokens where they are not counted from the start of a row.
type Words<'py> = (Bound<'py, PyAny>, Option<Bound<'py, PyAny>>);
/// Thresholds, and how many tokens were kept and were there; one each, or one a row.
type Found<'py> = (Bound<'py, PyArray1<f64>>, Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>);
/// Of the share, the count (the one that is not None) and the least number.
type Wanted = (Option<f64>, Option<u64>, u64);

/// What scores are multiplied by, and whether it has one number a row.
type Weights<'py> = (Bound<'py, PyAny>, bool);

struct WordArrays<'py> {
    words: PyReadonlyArray1<'py, u64>,
    positions: Option<PyReadonlyArray1<'py, i64>>,
}

impl<'py> WordArrays<'py> {
    fn of(call: &Call<'_>, words: &Words<'py>) -> PyResult<Self> {
        let positions = words.1.as_ref().map(|p| array1::<i64>(call, "positions", p)).transpose()?;
        Ok(Self { words: array1(call, "words", &words.0)?, positions })
    }

    fn view<'a>(&'a self, call: &Call<'_>, layout: &'a Layout) -> PyResult<Hashes<'a>> {
        let words = slice(call, "words", &self.words)?;
        let positions = self.positions.as_ref().map(|p| slice(call, "positions", p)).transpose()?;
        let fits = words.len() == layout.0.rows() && positions.is_none_or(|p| p.len() == layout.0.total());
        if !fits {
            return Err(call.value_error("'words' must have one a row, and 'positions' one a token"));
        }
        Ok(Hashes { layout: &layout.0, words, positions })
    }
}

fn want((share, count, least): Wanted) -> Want {
    match (share, count) {
        (Some(share), _) => Want::Share(share, least),
        (None, count) => Want::Count(count.unwrap_or(0)),
    }
}

fn found<'py, S>(py: Python<'py>, tops: &[Top<S>], wide: impl Fn(&S) -> f64) -> Found<'py> {
    let thresholds: Vec<f64> = tops.iter().map(|t| wide(&t.threshold)).collect();
    let counts =
        |f: fn(&Top<S>) -> u64| tops.iter().map(|t| f(t) as i64).collect::<Vec<_>>().into_pyarray(py);
    (thresholds.into_pyarray(py), counts(|t| t.kept), counts(|t| t.total))
}

struct Choice<'a> {
    field: Field<'a>,
    want: Want,
    per_row: bool,
    ties: Option<Hashes<'a>>,
}

impl Choice<'_> {
    fn run<C: Scores>(&self, scores: &C, out: &mut [u8], par: Par) -> rollmath_core::Result<Vec<Top<C::S>>> {
        let ties = self.ties.as_ref();
        if self.per_row {
            return top_of_rows(self.field, scores, self.want, ties, out, par);
        }
        tokens::top(self.field, scores, self.want, ties, out, par).map(|top| vec![top])
    }
}

fn top_as<'py, T: Float + Element>(
    py: Python<'py>,
    call: &Call<'_>,
    (x, lowest): (&PyReadonlyArray1<'py, T>, bool),
    weights: Option<&Weights<'py>>,
    choice: &Choice<'_>,
    out: &mut [u8],
) -> PyResult<Found<'py>> {
    let layout = choice.field.layout;
    let x = slice(call, call.x, x)?;
    layout.check("x", x.len()).map_err(|e| call.core(e))?;
    let by_row = weights.is_some_and(|w| w.1);
    let a = weights.map(|w| array1::<T>(call, "advantages", &w.0)).transpose()?;
    let a = a.as_ref().map(|a| slice(call, "advantages", a)).transpose()?;
    if a.is_some_and(|a| a.len() != if by_row { layout.rows() } else { layout.total() }) {
        return Err(call.value_error("'advantages' must have one number a token or a row"));
    }
    let tops = pool::run(py, layout.total(), |par| match a {
        None => choice.run(&Plain { x, lowest }, out, par),
        Some(a) if !by_row => choice.run(&Product { a, x }, out, par),
        Some(a) => choice.run(&RowProduct { a, x }, out, par),
    })?;
    Ok(found(py, &tops.map_err(|e| call.core(e))?, |&t| t.wide()))
}

/// Writes the mask of the tokens of the highest (or lowest) `|weights| x` and gives thresholds, kept and total.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn token_top<'py>(
    py: Python<'py>,
    who: &str,
    name: &str,
    layout: &Layout,
    x: &Bound<'py, PyAny>,
    lowest: bool,
    weights: Option<Weights<'py>>,
    trained: Option<&Bound<'py, PyAny>>,
    wanted: Wanted,
    per_row: bool,
    ties: Option<Words<'py>>,
    out: &Bound<'py, PyAny>,
) -> PyResult<Found<'py>> {
    let call = Call::named(who, name);
    let trained = mask(&call, "mask", trained)?;
    let trained = trained.as_ref().map(|m| slice(&call, "mask", m)).transpose()?;
    let ties = ties.map(|w| WordArrays::of(&call, &w)).transpose()?;
    let ties = ties.as_ref().map(|w| w.view(&call, layout)).transpose()?;
    let field = Field::new(&layout.0, trained).map_err(|e| call.core(e))?;
    let choice = Choice { field, want: want(wanted), per_row, ties };
    let mut out = array1_mut::<u8>(&call, "out", out)?;
    let out = out.as_slice_mut().map_err(|_| call.value_error("'out' must be contiguous"))?;
    match floats(&call, name, x)? {
        Floats::F32(x) => top_as(py, &call, (&x, lowest), weights.as_ref(), &choice, out),
        Floats::F64(x) => top_as(py, &call, (&x, lowest), weights.as_ref(), &choice, out),
    }
}

/// The same for tokens at random, those of the lowest hashes.
#[pyfunction]
#[allow(clippy::too_many_arguments)]
fn token_random<'py>(
    py: Python<'py>,
    who: &str,
    layout: &Layout,
    trained: Option<&Bound<'py, PyAny>>,
    wanted: Wanted,
    per_row: bool,
    words: Words<'py>,
    out: &Bound<'py, PyAny>,
) -> PyResult<Found<'py>> {
    let call = Call::new(who);
    let trained = mask(&call, "mask", trained)?;
    let trained = trained.as_ref().map(|m| slice(&call, "mask", m)).transpose()?;
    let words = WordArrays::of(&call, &words)?;
    let hashes = words.view(&call, layout)?;
    let field = Field::new(&layout.0, trained).map_err(|e| call.core(e))?;
    let choice = Choice { field, want: want(wanted), per_row, ties: None };
    let mut out = array1_mut::<u8>(&call, "out", out)?;
    let out = out.as_slice_mut().map_err(|_| call.value_error("'out' must be contiguous"))?;
    let tops = pool::run(py, layout.0.total(), |par| choice.run(&hashes, out, par))?;
    // Hashes are complements, of which the highest are the lowest; 52 bits of them are a number in (0, 1).
    let unit = |&s: &u64| ((!s >> 12) as f64 + 0.5) * 2f64.powi(-52);
    Ok(found(py, &tops.map_err(|e| call.core(e))?, unit))
}

/// The layout, the trained tokens, the scores and whether the lowest are chosen.
type Batch<'py> = (Bound<'py, Layout>, Option<Bound<'py, PyAny>>, Bound<'py, PyAny>, bool);

/// Calls `f(field, scores, hashes, par)`, which `f` gets from Python's objects.
macro_rules! with_batch {
    ($py:expr, $call:expr, $batch:expr, $words:expr, |$field:ident, $scores:ident, $hashes:ident, $par:ident| $body:expr) => {{
        let (layout, trained, x, lowest) = $batch;
        let layout = layout.get();
        let trained = mask(&$call, "mask", trained.as_ref())?;
        let trained = trained.as_ref().map(|m| slice(&$call, "mask", m)).transpose()?;
        let words = $words.map(|w| WordArrays::of(&$call, &w)).transpose()?;
        let $hashes = words.as_ref().map(|w| w.view(&$call, layout)).transpose()?;
        let $field = Field::new(&layout.0, trained).map_err(|e| $call.core(e))?;
        let x = floats(&$call, $call.x, &x)?;
        crate::args::with_floats!(&x, $call, $call.x, |x| {
            layout.0.check("x", x.len()).map_err(|e| $call.core(e))?;
            let $scores = Plain { x, lowest };
            pool::run($py, layout.0.total(), |$par| $body)?
        })
    }};
}

fn counts_of<C: Scores>(
    field: Field<'_>,
    scores: &C,
    round: Round,
    tied: Option<(u64, Hashes<'_>)>,
    par: Par,
) -> rollmath_core::Result<Vec<u64>> {
    match tied {
        None => tokens_count::counts(field, scores, round, par),
        Some((key, hashes)) => {
            let mut equal = vec![0; field.layout.total()];
            tokens::equal(field, scores, C::S::of_key(key), &mut equal, par);
            let field = Field::new(field.layout, Some(&equal))?;
            tokens_count::counts(field, &hashes, round, par)
        }
    }
}

/// How many scores that begin with `prefix` have which digit; with `tied`, of the hashes of those that have that key.
#[pyfunction]
fn token_counts<'py>(
    py: Python<'py>,
    who: &str,
    name: &str,
    batch: Batch<'py>,
    number: u32,
    prefix: u64,
    tied: Option<(u64, Words<'py>)>,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let call = Call::named(who, name);
    let round = Round { number, prefix };
    let (key, words) = tied.map_or((0, None), |(key, words)| (key, Some(words)));
    let counts = with_batch!(py, call, batch, words, |field, scores, hashes, par| {
        counts_of(field, &scores, round, hashes.map(|h| (key, h)), par)
    });
    let counts: Vec<i64> = counts.map_err(|e| call.core(e))?.into_iter().map(|n| n as i64).collect();
    Ok(counts.into_pyarray(py))
}

fn mark_to<C: Scores>(
    field: Field<'_>,
    scores: &C,
    key: u64,
    tied: Option<(u64, Hashes<'_>)>,
    out: &mut [u8],
    par: Par,
) -> rollmath_core::Result<()> {
    let threshold = C::S::of_key(key);
    tokens::mark(field, scores, threshold, out, par);
    if let Some((last, hashes)) = tied {
        let (mut equal, mut drawn) = (vec![0; out.len()], vec![0; out.len()]);
        tokens::equal(field, scores, threshold, &mut equal, par);
        tokens::mark(Field::new(field.layout, Some(&equal))?, &hashes, last, &mut drawn, par);
        tokens::keep_drawn(out, &equal, &drawn);
    }
    Ok(())
}

/// Marks the scores from the one of `key` on; with `tied`, of those of the key the hashes from its own key on.
#[pyfunction]
fn token_mark<'py>(
    py: Python<'py>,
    who: &str,
    name: &str,
    batch: Batch<'py>,
    key: u64,
    tied: Option<(u64, Words<'py>)>,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let call = Call::named(who, name);
    let mut out = array1_mut::<u8>(&call, "out", out)?;
    let out = out.as_slice_mut().map_err(|_| call.value_error("'out' must be contiguous"))?;
    let total = batch.0.get().0.total();
    if out.len() != total {
        return Err(call.value_error(format!("'out' must have length {total}, got {}", out.len())));
    }
    let (last, words) = tied.map_or((0, None), |(last, words)| (last, Some(words)));
    let done = with_batch!(py, call, batch, words, |field, scores, hashes, par| {
        mark_to(field, &scores, key, hashes.map(|h| (last, h)), out, par)
    });
    done.map_err(|e| call.core(e))
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(token_top, m)?)?;
    m.add_function(wrap_pyfunction!(token_random, m)?)?;
    m.add_function(wrap_pyfunction!(token_counts, m)?)?;
    m.add_function(wrap_pyfunction!(token_mark, m)?)
}

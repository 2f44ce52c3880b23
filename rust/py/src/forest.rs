//! Forests: rollouts that share prefixes, as a frozen object that is validated once.

use std::sync::OnceLock;

use numpy::{
    IntoPyArray, PyArray1, PyArrayDescrMethods, PyReadonlyArray1, PyUntypedArray, PyUntypedArrayMethods,
};
use pyo3::prelude::*;
use rollmath_core::forest::{self, NONE, Per, Plan, Rows, Sequences, Spans};

use crate::args::{array1, mask, slice};
use crate::errors::Call;
use crate::groups::Csr;
use crate::pool;

mod pack;
mod tokens;
mod values;

/// Parents of nodes, their canonical order and, if given, the places of their tokens.
#[pyclass(frozen, module = "rollmath._core")]
pub(crate) struct Preorder {
    forest: forest::Forest,
    /// Where tokens go, per rollout and per node, without and with those of roots; each made when it is first needed.
    plans: [OnceLock<Plan>; 4],
}

impl Preorder {
    fn new(forest: forest::Forest) -> Self {
        Self { forest, plans: Default::default() }
    }

    fn plan(&self, py: Python<'_>, call: &Call<'_>, per: Per, include_root: bool) -> PyResult<&Plan> {
        let slot = &self.plans[2 * usize::from(per == Per::Node) + usize::from(include_root)];
        if let Some(plan) = slot.get() {
            return Ok(plan);
        }
        let plan = py.detach(|| Plan::new(&self.forest, per, include_root)).map_err(|e| call.core(e))?;
        // If another thread was faster, its plan is the same.
        Ok(slot.get_or_init(|| plan))
    }
}

type Ints<'py> = Bound<'py, PyArray1<i64>>;
type Input<'py> = PyReadonlyArray1<'py, i64>;

fn ints(py: Python<'_>, x: impl Iterator<Item = i64>) -> Ints<'_> {
    x.collect::<Vec<_>>().into_pyarray(py)
}

fn wide(py: Python<'_>, x: impl IntoIterator<Item = u32>) -> Ints<'_> {
    ints(py, x.into_iter().map(i64::from))
}

/// An optional int64 array.
fn input<'py>(call: &Call<'_>, name: &str, x: Option<&Bound<'py, PyAny>>) -> PyResult<Option<Input<'py>>> {
    x.map(|x| array1::<i64>(call, name, x)).transpose()
}

fn view<'a>(call: &Call<'_>, name: &str, x: Option<&'a Input<'_>>) -> PyResult<Option<&'a [i64]>> {
    x.map(|x| slice(call, name, x)).transpose()
}

#[pymethods]
impl Preorder {
    /// From the parent of each node (int64, -1 for roots). `leaves`: leaf of each rollout. `spans`: rows and starts of
    /// the nodes' tokens, which need `lengths`; `offsets`: of the rows, of which there are `n_rows` otherwise.
    #[staticmethod]
    #[pyo3(signature = (who, parents, leaves=None, lengths=None, spans=None, offsets=None, n_rows=None))]
    #[allow(clippy::too_many_arguments)]
    fn from_parents(
        py: Python<'_>,
        who: &str,
        parents: &Bound<'_, PyAny>,
        leaves: Option<&Bound<'_, PyAny>>,
        lengths: Option<&Bound<'_, PyAny>>,
        spans: Option<(Bound<'_, PyAny>, Bound<'_, PyAny>)>,
        offsets: Option<&Bound<'_, PyAny>>,
        n_rows: Option<usize>,
    ) -> PyResult<Self> {
        let call = Call::new(who);
        let (rows, starts) = spans.as_ref().map_or((None, None), |(r, s)| (Some(r), Some(s)));
        let (leaves, lengths) = (input(&call, "leaves", leaves)?, input(&call, "lengths", lengths)?);
        let (rows, starts) = (input(&call, "spans", rows)?, input(&call, "spans", starts)?);
        let (parents, offsets) =
            (array1::<i64>(&call, "parents", parents)?, input(&call, "offsets", offsets)?);
        let parents = slice(&call, "parents", &parents)?;
        let leaves = view(&call, "leaves", leaves.as_ref())?;
        let lengths = view(&call, "lengths", lengths.as_ref())?;
        let (rows, starts) = (view(&call, "spans", rows.as_ref())?, view(&call, "spans", starts.as_ref())?);
        let offsets = view(&call, "offsets", offsets.as_ref())?;
        let made = py.detach(|| {
            let made = forest::Forest::from_parents(parents, leaves)?;
            let Some(lengths) = lengths.map(<[i64]>::to_vec) else {
                return Ok(made);
            };
            let known = match (offsets, n_rows) {
                (Some(offsets), _) => Rows::Offsets(offsets.to_vec()),
                (None, Some(n)) => Rows::Number(n),
                (None, None) => Rows::Named,
            };
            made.with_spans(match (rows, starts) {
                (Some(rows), Some(starts)) => Spans::new(rows.to_vec(), starts.to_vec(), lengths, known)?,
                _ => Spans::from_lengths(lengths)?,
            })
        });
        made.map(Self::new).map_err(|e| call.core(e))
    }

    /// From token sequences (int32 or int64) of which those of a group share prefixes.
    #[staticmethod]
    #[pyo3(signature = (who, tokens, offsets, groups, prompts=None, payload=None))]
    fn from_sequences(
        py: Python<'_>,
        who: &str,
        tokens: &Bound<'_, PyAny>,
        offsets: &Bound<'_, PyAny>,
        groups: &Csr,
        prompts: Option<&Bound<'_, PyAny>>,
        payload: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<Self> {
        let call = Call::new(who);
        let offsets = array1::<i64>(&call, "offsets", offsets)?;
        let prompts = input(&call, "prompt_lengths", prompts)?;
        let payload = input(&call, "payload", payload)?;
        let rest = (
            slice(&call, "offsets", &offsets)?,
            view(&call, "prompt_lengths", prompts.as_ref())?,
            view(&call, "payload", payload.as_ref())?,
        );
        let narrow =
            tokens.cast::<PyUntypedArray>().is_ok_and(|a| a.dtype().is_equiv_to(&numpy::dtype::<i32>(py)));
        if narrow {
            let tokens = array1::<i32>(&call, "tokens", tokens)?;
            build(py, &call, slice(&call, "tokens", &tokens)?, rest, groups)
        } else {
            let tokens = array1::<i64>(&call, "tokens", tokens)?;
            build(py, &call, slice(&call, "tokens", &tokens)?, rest, groups)
        }
    }

    /// The forest of the rollouts to keep (uint8 or bool, one a rollout), and the old ids of its nodes.
    fn prune<'py>(
        &self,
        py: Python<'py>,
        who: &str,
        keep: &Bound<'py, PyAny>,
    ) -> PyResult<(Self, Ints<'py>)> {
        let call = Call::new(who);
        let Some(keep) = mask(&call, "keep", Some(keep))? else {
            return Err(call.type_error("'keep' must be a mask"));
        };
        let keep = slice(&call, "keep", &keep)?;
        let (pruned, nodes) = py.detach(|| forest::prune(&self.forest, keep)).map_err(|e| call.core(e))?;
        Ok((Self::new(pruned), wide(py, nodes)))
    }

    fn __len__(&self) -> usize {
        self.forest.len()
    }

    #[getter]
    fn n_trees(&self) -> usize {
        self.forest.n_trees()
    }

    #[getter]
    fn n_leaves(&self) -> usize {
        self.forest.n_leaves()
    }

    /// Parent of each node, -1 for roots.
    #[getter]
    fn parents<'py>(&self, py: Python<'py>) -> Ints<'py> {
        let narrow = self.forest.parents().iter();
        ints(py, narrow.map(|&p| if p == NONE { -1 } else { i64::from(p) }))
    }

    /// Nodes in depth-first preorder.
    #[getter]
    fn order<'py>(&self, py: Python<'py>) -> Ints<'py> {
        wide(py, self.forest.order().iter().copied())
    }

    /// Edges between each node and its root.
    #[getter]
    fn depth<'py>(&self, py: Python<'py>) -> Ints<'py> {
        wide(py, self.forest.depth())
    }

    /// Leaf of each rollout.
    #[getter]
    fn leaves<'py>(&self, py: Python<'py>) -> Ints<'py> {
        wide(py, self.forest.leaves().iter().copied())
    }

    /// Number of leaves below each node.
    #[getter]
    fn leaf_counts<'py>(&self, py: Python<'py>) -> Ints<'py> {
        wide(py, self.forest.leaf_counts())
    }

    /// Tree of each node.
    #[getter]
    fn tree<'py>(&self, py: Python<'py>) -> Ints<'py> {
        wide(py, self.forest.tree_index())
    }

    /// Root of each tree.
    #[getter]
    fn roots<'py>(&self, py: Python<'py>) -> Ints<'py> {
        wide(py, self.forest.roots())
    }

    /// Nodes grouped by parent, each root on its own.
    fn siblings(&self, py: Python<'_>, who: &str) -> PyResult<Csr> {
        let call = Call::new(who);
        py.detach(|| self.forest.siblings()).map(Csr).map_err(|e| call.core(e))
    }

    /// Number of tokens of each node.
    #[getter]
    fn lengths<'py>(&self, py: Python<'py>) -> Option<Ints<'py>> {
        Some(PyArray1::from_slice(py, self.forest.spans()?.lengths()))
    }

    /// Row and start of the tokens of each node.
    #[getter]
    fn places<'py>(&self, py: Python<'py>) -> Option<(Ints<'py>, Ints<'py>)> {
        let (rows, starts) = self.forest.spans()?.places()?;
        Some((PyArray1::from_slice(py, rows), PyArray1::from_slice(py, starts)))
    }

    /// Number of rows of tokens, those without tokens of the forest among them.
    #[getter]
    fn n_rows(&self) -> Option<usize> {
        Some(self.forest.spans()?.n_rows())
    }

    /// Start of each row of tokens.
    #[getter]
    fn offsets<'py>(&self, py: Python<'py>) -> Option<Ints<'py>> {
        Some(PyArray1::from_slice(py, self.forest.spans()?.offsets()?))
    }
}

type Rest<'a> = (&'a [i64], Option<&'a [i64]>, Option<&'a [i64]>);

fn build<T: Copy + Eq + std::hash::Hash + Send + Sync>(
    py: Python<'_>,
    call: &Call<'_>,
    tokens: &[T],
    (offsets, prompts, payload): Rest<'_>,
    groups: &Csr,
) -> PyResult<Preorder> {
    let sequences = Sequences { tokens, offsets, prompts, payload };
    let made = pool::run(py, tokens.len(), |par| forest::from_sequences(sequences, &groups.0, par))?;
    made.map(Preorder::new).map_err(|e| call.core(e))
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Preorder>()?;
    pack::register(m)?;
    tokens::register(m)?;
    values::register(m)
}

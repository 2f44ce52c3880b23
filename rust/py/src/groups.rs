//! Groups as a frozen object that is validated once.

use numpy::{IntoPyArray, PyArray1};
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyList, PyType};
use rollmath_core::Groups;

use crate::args::{array1, slice};
use crate::errors::Call;

/// Dense group index of each row, and the rows of each group.
#[pyclass(frozen, module = "rollmath._core", name = "Csr")]
pub(crate) struct Csr(pub(crate) Groups);

#[pymethods]
impl Csr {
    /// From one int64 id a row.
    #[staticmethod]
    fn from_ids(py: Python<'_>, who: &str, ids: &Bound<'_, PyAny>) -> PyResult<Self> {
        let call = Call::new(who);
        let array = array1::<i64>(&call, "ids", ids)?;
        let ids = slice(&call, "ids", &array)?;
        py.detach(|| Groups::from_ids(ids)).map(Self).map_err(|e| call.core(e))
    }

    /// From a list of hashable ids of one type.
    #[staticmethod]
    fn from_objects<'py>(py: Python<'py>, who: &str, name: &str, ids: &Bound<'py, PyList>) -> PyResult<Self> {
        let call = Call::new(who);
        let table = PyDict::new(py);
        let mut kind: Option<Bound<'py, PyType>> = None;
        let (mut index, mut n_groups) = (Vec::with_capacity(ids.len()), 0u32);
        for (row, id) in ids.iter().enumerate() {
            let this = id.get_type();
            match &kind {
                Some(kind) if kind.is(&this) => {}
                Some(kind) => {
                    let text = format!(
                        "'{name}' must be of one type, got {} at index 0 and {} at index {row}; convert them all",
                        kind.name()?,
                        this.name()?
                    );
                    return Err(call.type_error(text));
                }
                None if id.is_instance_of::<PyBool>() => {
                    return Err(call
                        .type_error(format!("'{name}' must not be bools; convert them to ints or strings")));
                }
                None => kind = Some(this),
            }
            let g = match table.get_item(&id)? {
                Some(g) => g.extract::<u32>()?,
                None => {
                    table.set_item(&id, n_groups)?;
                    n_groups += 1;
                    n_groups - 1
                }
            };
            index.push(g);
        }
        py.detach(|| Groups::from_index(index, n_groups as usize)).map(Self).map_err(|e| call.core(e))
    }

    /// From the dense index of each row (int64), as pickled.
    #[staticmethod]
    fn from_index(py: Python<'_>, who: &str, index: &Bound<'_, PyAny>, n_groups: usize) -> PyResult<Self> {
        let call = Call::new(who);
        let array = array1::<i64>(&call, "index", index)?;
        let index = slice(&call, "index", &array)?;
        let narrow: Option<Vec<u32>> = index.iter().map(|&g| u32::try_from(g).ok()).collect();
        let narrow = narrow.ok_or_else(|| call.value_error("'index' must be between 0 and 2**32 - 1"))?;
        py.detach(|| Groups::from_index(narrow, n_groups)).map(Self).map_err(|e| call.core(e))
    }

    /// Rows on which all parts agree.
    #[staticmethod]
    fn product(py: Python<'_>, who: &str, parts: Vec<PyRef<'_, Self>>) -> PyResult<Self> {
        let call = Call::new(who);
        let parts: Vec<&Groups> = parts.iter().map(|p| &p.0).collect();
        py.detach(|| Groups::product(&parts)).map(Self).map_err(|e| call.core(e))
    }

    fn __len__(&self) -> usize {
        self.0.len()
    }

    #[getter]
    fn n_groups(&self) -> usize {
        self.0.n_groups()
    }

    /// Group of each row (int64).
    #[getter]
    fn index<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        self.0.index().iter().map(|&g| i64::from(g)).collect::<Vec<_>>().into_pyarray(py)
    }

    /// Rows sorted by group (int64).
    #[getter]
    fn order<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        self.0.order().iter().map(|&r| i64::from(r)).collect::<Vec<_>>().into_pyarray(py)
    }

    /// Start of each group in `order` (int64, one more than groups).
    #[getter]
    fn offsets<'py>(&self, py: Python<'py>) -> Bound<'py, PyArray1<i64>> {
        self.0.offsets().iter().map(|&o| o as i64).collect::<Vec<_>>().into_pyarray(py)
    }
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_class::<Csr>()
}

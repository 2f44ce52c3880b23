//! The only place that looks into NumPy objects: dtype, rank, contiguity and borrows are checked here.
//!
//! `try_readonly` is used throughout, because the plain call panics on an array that is already borrowed; C order is
//! checked by hand, because `as_slice` also accepts Fortran order, whose elements would come transposed.

use numpy::{Element, PyArray1, PyArrayDescrMethods, PyArrayMethods, PyReadonlyArray1, PyReadwriteArray1};
use numpy::{PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;

use crate::errors::Call;

/// A one-dimensional float array.
pub(crate) enum Floats<'py> {
    F32(PyReadonlyArray1<'py, f32>),
    F64(PyReadonlyArray1<'py, f64>),
}

/// Evaluates `$body` with `$x` bound to the slice of a [`Floats`], for either element type.
macro_rules! with_floats {
    ($floats:expr, $call:expr, $name:expr, |$x:ident| $body:expr) => {
        match $floats {
            $crate::args::Floats::F32(array) => {
                let $x = $crate::args::slice(&$call, $name, array)?;
                $body
            }
            $crate::args::Floats::F64(array) => {
                let $x = $crate::args::slice(&$call, $name, array)?;
                $body
            }
        }
    };
}
pub(crate) use with_floats;

fn describe(object: &Bound<'_, PyAny>) -> String {
    match object.cast::<PyUntypedArray>() {
        Ok(a) => format!("{}-D {}", a.ndim(), a.dtype()),
        Err(_) => object.get_type().name().map_or_else(|_| "an object".into(), |n| n.to_string()),
    }
}

/// The error for anything else than a 1-D array of `T`. A dtype's name is Python's work: not before it is needed.
fn wrong<T: Element>(call: &Call<'_>, name: &str, object: &Bound<'_, PyAny>) -> PyErr {
    let what = T::get_dtype(object.py());
    call.type_error(format!("'{name}' must be a 1-D {what} array, got {}", describe(object)))
}

fn check_layout<T: Element>(call: &Call<'_>, name: &str, object: &Bound<'_, PyAny>) -> PyResult<()> {
    let array = object.cast::<PyUntypedArray>().map_err(|_| wrong::<T>(call, name, object))?;
    if array.ndim() != 1 {
        return Err(wrong::<T>(call, name, object));
    }
    if !array.is_c_contiguous() {
        let fix = "call np.ascontiguousarray";
        return Err(call.value_error(format!("'{name}' must be contiguous in C order; {fix}")));
    }
    Ok(())
}

/// A 1-D C-contiguous array of exactly `T`.
pub(crate) fn array1<'py, T: Element>(
    call: &Call<'_>,
    name: &str,
    object: &Bound<'py, PyAny>,
) -> PyResult<PyReadonlyArray1<'py, T>> {
    check_layout::<T>(call, name, object)?;
    let array = object.cast::<PyArray1<T>>().map_err(|_| wrong::<T>(call, name, object))?;
    array.try_readonly().map_err(|_| busy(call, name))
}

/// The same, to be written to.
pub(crate) fn array1_mut<'py, T: Element>(
    call: &Call<'_>,
    name: &str,
    object: &Bound<'py, PyAny>,
) -> PyResult<PyReadwriteArray1<'py, T>> {
    check_layout::<T>(call, name, object)?;
    let array = object.cast::<PyArray1<T>>().map_err(|_| wrong::<T>(call, name, object))?;
    array.try_readwrite().map_err(|e| match e {
        numpy::BorrowError::NotWriteable => {
            call.value_error(format!("'{name}' is read-only; pass an array that may be written to"))
        }
        _ => busy(call, name),
    })
}

fn busy(call: &Call<'_>, name: &str) -> PyErr {
    call.value_error(format!("'{name}' is in use by another call, or shares memory with another argument"))
}

/// float32 or float64.
pub(crate) fn floats<'py>(call: &Call<'_>, name: &str, object: &Bound<'py, PyAny>) -> PyResult<Floats<'py>> {
    if let Ok(array) = object.cast::<PyUntypedArray>()
        && array.dtype().is_equiv_to(&numpy::dtype::<f32>(object.py()))
    {
        return array1(call, name, object).map(Floats::F32);
    }
    array1(call, name, object).map(Floats::F64)
}

/// The elements of an array that [`array1`] has checked.
pub(crate) fn slice<'a, T: Element>(
    call: &Call<'_>,
    name: &str,
    array: &'a PyReadonlyArray1<'_, T>,
) -> PyResult<&'a [T]> {
    array.as_slice().map_err(|_| call.value_error(format!("'{name}' must be contiguous in C order")))
}

/// An optional mask as bytes, since a NumPy bool array may hold bytes other than 0 and 1.
pub(crate) fn mask<'py>(
    call: &Call<'_>,
    name: &str,
    object: Option<&Bound<'py, PyAny>>,
) -> PyResult<Option<PyReadonlyArray1<'py, u8>>> {
    let Some(object) = object else { return Ok(None) };
    let is_bool = object
        .cast::<PyUntypedArray>()
        .is_ok_and(|a| a.dtype().is_equiv_to(&numpy::dtype::<bool>(object.py())));
    if is_bool {
        return array1(call, name, &object.call_method1("view", ("u1",))?).map(Some);
    }
    array1(call, name, object).map(Some)
}

/// A new array that `f` has filled, in memory of NumPy, which asks the system for large pages: a fresh page costs more
/// than the arithmetic on it.
pub(crate) fn fresh<'py, T: Element>(
    py: Python<'py>,
    call: &Call<'_>,
    n: usize,
    f: impl FnOnce(&mut [T]) -> PyResult<rollmath_core::Result<()>>,
) -> PyResult<Bound<'py, PyAny>> {
    let array = PyArray1::<T>::zeros(py, n, false);
    let mut out = array.try_readwrite().map_err(|_| busy(call, "out"))?;
    let slots = out.as_slice_mut().map_err(|_| call.value_error("'out' must be contiguous"))?;
    f(slots)?.map_err(|e| call.core(e))?;
    drop(out);
    Ok(array.into_any())
}

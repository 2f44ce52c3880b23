//! Padding and packing of rows. Elements are moved as unsigned integers of their size, so that every dtype is served
//! by four instantiations.

use numpy::{Element, IntoPyArray, PyArray1, PyUntypedArray, PyUntypedArrayMethods};
use pyo3::prelude::*;
use rollmath_core::{ragged, real};

use crate::args::{array1, array1_mut, slice};
use crate::errors::Call;
use crate::pool;

/// Runs `$f::<T>` for the unsigned integer `T` of the size of the elements of `$object`.
macro_rules! by_size {
    ($call:expr, $name:expr, $object:expr, $f:ident($($arg:expr),*)) => {{
        let array = $object.cast::<PyUntypedArray>().map_err(|_| {
            $call.type_error(format!("'{}' must be a NumPy array", $name))
        })?;
        match numpy::PyArrayDescrMethods::itemsize(&array.dtype()) {
            1 => $f::<u8>($($arg),*),
            2 => $f::<u16>($($arg),*),
            4 => $f::<u32>($($arg),*),
            8 => $f::<u64>($($arg),*),
            n => Err($call.type_error(format!("'{}' must have elements of 1, 2, 4 or 8 bytes, got {n}", $name))),
        }
    }};
}
pub(crate) use by_size;

/// Raises unless offsets (int64) start at 0, do not decrease and end at `total`.
#[pyfunction]
fn check_offsets(who: &str, name: &str, offsets: &Bound<'_, PyAny>, total: usize) -> PyResult<()> {
    let call = Call::named(who, name);
    let array = array1::<i64>(&call, name, offsets)?;
    ragged::check_offsets("x", slice(&call, name, &array)?, total).map_err(|e| call.core(e))
}

/// Offsets from lengths (int64), each between 0 and `limit`.
#[pyfunction]
#[pyo3(signature = (who, lengths, limit=None, limit_name=""))]
fn offsets_from_lengths<'py>(
    py: Python<'py>,
    who: &str,
    lengths: &Bound<'py, PyAny>,
    limit: Option<i64>,
    limit_name: &str,
) -> PyResult<Bound<'py, PyArray1<i64>>> {
    let call = Call::new(who);
    let array = array1::<i64>(&call, "lengths", lengths)?;
    let lengths = slice(&call, "lengths", &array)?;
    let offsets = ragged::offsets_from_lengths(lengths, limit.unwrap_or(i64::MAX), limit_name);
    Ok(offsets.map_err(|e| call.core(e))?.into_pyarray(py))
}

fn pack_as<'py, T: Element + Copy + Send + Sync>(
    py: Python<'py>,
    call: Call<'_>,
    x: &Bound<'py, PyAny>,
    width: usize,
    offsets: &Bound<'py, PyAny>,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let x = array1::<T>(&call, "x", x)?;
    let offsets = array1::<i64>(&call, "offsets", offsets)?;
    let mut out = array1_mut::<T>(&call, "out", out)?;
    let (x, offsets) = (slice(&call, "x", &x)?, slice(&call, "offsets", &offsets)?);
    let out = out.as_slice_mut().map_err(|_| call.value_error("'out' must be contiguous"))?;
    let done = pool::run(py, out.len(), |par| ragged::pack(x, width, offsets, out, par))?;
    done.map_err(|e| call.core(e))
}

/// Copies the first columns of each row of `x` (flattened, `width` columns) into `out`.
#[pyfunction]
fn pack(
    py: Python<'_>,
    who: &str,
    x: &Bound<'_, PyAny>,
    width: usize,
    offsets: &Bound<'_, PyAny>,
    out: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let call = Call::new(who);
    by_size!(call, "x", x, pack_as(py, call, x, width, offsets, out))
}

fn unpack_as<'py, T: Element + bytemuck::Pod + Send + Sync>(
    py: Python<'py>,
    call: Call<'_>,
    values: &Bound<'py, PyAny>,
    offsets: &Bound<'py, PyAny>,
    width: usize,
    fill: &Bound<'py, PyAny>,
    out: &Bound<'py, PyAny>,
) -> PyResult<()> {
    let values = array1::<T>(&call, "values", values)?;
    let offsets = array1::<i64>(&call, "offsets", offsets)?;
    let fill = array1::<T>(&call, "fill", fill)?;
    let mut out = array1_mut::<T>(&call, "out", out)?;
    let (values, offsets) = (slice(&call, "values", &values)?, slice(&call, "offsets", &offsets)?);
    let &[fill] = slice(&call, "fill", &fill)? else {
        return Err(call.value_error("'fill' must be one value"));
    };
    let out = out.as_slice_mut().map_err(|_| call.value_error("'out' must be contiguous"))?;
    let done = pool::run(py, out.len(), |par| ragged::unpack(values, offsets, width, fill, out, par))?;
    done.map_err(|e| call.core(e))
}

/// Writes rows into `out` (flattened, `width` columns), the rest of each row becoming `fill` (one element).
#[pyfunction]
fn unpack(
    py: Python<'_>,
    who: &str,
    values: &Bound<'_, PyAny>,
    offsets: &Bound<'_, PyAny>,
    width: usize,
    fill: &Bound<'_, PyAny>,
    out: &Bound<'_, PyAny>,
) -> PyResult<()> {
    let call = Call::new(who);
    by_size!(call, "values", values, unpack_as(py, call, values, offsets, width, fill, out))
}

type Positions<'py> = (Bound<'py, PyArray1<i64>>, Bound<'py, PyArray1<i64>>);

/// Offsets and columns of the nonzero elements of a mask (uint8, flattened).
#[pyfunction]
fn mask_positions<'py>(
    py: Python<'py>,
    who: &str,
    mask: &Bound<'py, PyAny>,
    rows: usize,
    width: usize,
) -> PyResult<Positions<'py>> {
    let call = Call::new(who);
    let array = array1::<u8>(&call, "mask", mask)?;
    let mask = slice(&call, "mask", &array)?;
    let (offsets, positions) =
        py.detach(|| ragged::mask_positions(mask, rows, width)).map_err(|e| call.core(e))?;
    Ok((offsets.into_pyarray(py), positions.into_pyarray(py)))
}

/// float32 from the bits (uint16) of bfloat16.
#[pyfunction]
fn widen_bf16<'py>(py: Python<'py>, bits: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyArray1<f32>>> {
    let call = Call::new("widen_bf16");
    let array = array1::<u16>(&call, "bits", bits)?;
    Ok(real::widen_bf16(slice(&call, "bits", &array)?).into_pyarray(py))
}

pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(check_offsets, m)?)?;
    m.add_function(wrap_pyfunction!(offsets_from_lengths, m)?)?;
    m.add_function(wrap_pyfunction!(pack, m)?)?;
    m.add_function(wrap_pyfunction!(unpack, m)?)?;
    m.add_function(wrap_pyfunction!(mask_positions, m)?)?;
    m.add_function(wrap_pyfunction!(widen_bf16, m)?)
}

//! A column of keys as bytes: the same bytes if, and only if, the keys are the same.

use numpy::PyReadonlyArray1;
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyInt, PyList, PyString, PyTuple};

use super::encode::{self, Types};
use crate::args::{array1, slice};
use crate::errors::Call;

/// Name, keys (objects or bytes), type and length of a key for bytes, which of the keys each row has.
pub(super) type Given<'py> = (String, Bound<'py, PyAny>, String, usize, Option<Bound<'py, PyAny>>);

/// The keys of a column. `keys` point into objects and arrays that `_hold` refers to, or into `_made`; nothing writes to
/// these as long as this lives, so the keys may be read without the interpreter.
pub(super) struct Column<'py> {
    name: String,
    kind: String,
    keys: Vec<&'static [u8]>,
    _hold: Held<'py>,
    _array: Option<PyReadonlyArray1<'py, u8>>,
    _made: Vec<u8>,
}

/// How many objects before its turn an object is announced.
const OBJECTS_AHEAD: usize = 24;

/// Objects that are kept alive; their counts are in memory that lies anywhere, too.
struct Held<'py>(Vec<Bound<'py, PyAny>>);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut objects = std::mem::take(&mut self.0).into_iter();
        while let Some(object) = objects.next() {
            if let Some(later) = objects.as_slice().get(OBJECTS_AHEAD) {
                announce(later.as_ptr());
            }
            drop(object);
        }
    }
}

/// Asks the processor for an object that will be looked at soon.
fn announce(object: *const ffi::PyObject) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint; it reads nothing.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(object.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = object;
}

/// A slice without its lifetime.
///
/// # Safety
/// The memory must stay as it is for as long as the result is used.
unsafe fn forever(bytes: &[u8]) -> &'static [u8] {
    // SAFETY: as of this function.
    unsafe { std::slice::from_raw_parts(bytes.as_ptr(), bytes.len()) }
}

/// Asks the processor for the memory of a key that will be read soon: keys lie anywhere, where it cannot guess them.
pub(super) fn prefetch(key: &[u8]) {
    #[cfg(target_arch = "x86_64")]
    for line in key.chunks(64).take(32) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: a hint; it reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line.as_ptr().cast()) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = key;
}

/// What objects may be keys. Each has its own encoding, and a column is of one kind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Str,
    Bytes,
    Int,
    Uuid,
    Tuple,
    Dict,
    List,
}

impl Kind {
    fn of(types: &Types<'_>, object: &Bound<'_, PyAny>) -> Option<Self> {
        if object.is_instance_of::<PyString>() {
            Some(Self::Str)
        } else if object.is_instance_of::<PyBytes>() {
            Some(Self::Bytes)
        } else if object.is_instance_of::<PyInt>() {
            (!object.is_instance_of::<PyBool>()).then_some(Self::Int)
        } else if object.is_instance_of::<PyTuple>() {
            Some(Self::Tuple)
        } else if object.is_instance_of::<PyDict>() {
            Some(Self::Dict)
        } else if object.is_instance_of::<PyList>() {
            Some(Self::List)
        } else if types.is_numpy_int(object) {
            Some(Self::Int)
        } else {
            types.is_uuid(object).then_some(Self::Uuid)
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Str => "str",
            Self::Bytes => "bytes",
            Self::Int => "int",
            Self::Uuid => "UUID",
            Self::Tuple => "tuple",
            Self::Dict => "dict",
            Self::List => "list",
        }
    }
}

impl<'py> Column<'py> {
    pub(super) fn read(call: &Call<'_>, given: &Given<'py>) -> PyResult<Self> {
        let (name, data, kind, width, index) = given;
        let mut column = if let Ok(list) = data.cast::<PyList>() {
            // Another thread may change the list while the interpreter is released, but not the objects that are held.
            match list.get_item(0) {
                Ok(first) if first.is_instance_of::<PyString>() => Self::listed(call, name, list, Kind::Str)?,
                Ok(first) if first.is_instance_of::<PyBytes>() => {
                    Self::listed(call, name, list, Kind::Bytes)?
                }
                _ => Self::objects(call, name, list.to_tuple())?,
            }
        } else if let Ok(tuple) = data.cast::<PyTuple>() {
            Self::objects(call, name, tuple.clone())?
        } else {
            Self::bytes(call, name, data, kind, *width)?
        };
        if let Some(index) = index {
            let index = array1::<i64>(call, "index", index)?;
            let pick = |&i: &i64| usize::try_from(i).ok().and_then(|i| column.keys.get(i).copied());
            let picked: Option<Vec<_>> = slice(call, "index", &index)?.iter().map(pick).collect();
            column.keys = picked.ok_or_else(|| call.value_error("'index' must name a key"))?;
        }
        Ok(column)
    }

    fn empty(name: &str, n: usize) -> Self {
        let (name, kind, keys) = (name.into(), String::new(), Vec::with_capacity(n));
        Self { name, kind, keys, _hold: Held(Vec::new()), _array: None, _made: Vec::new() }
    }

    /// The bytes of each key.
    pub(super) fn keys(&self) -> &[&[u8]] {
        &self.keys
    }

    /// Raises unless the keys may equal those of `other`.
    pub(super) fn check_kind(&self, call: &Call<'_>, other: &Self) -> PyResult<()> {
        if self.kind == other.kind || self.keys.is_empty() || other.keys.is_empty() {
            return Ok(());
        }
        let (one, two) = (&other.name, &self.name);
        let text = format!("'{one}' and '{two}' must be of one type, got {} and {}", other.kind, self.kind);
        Err(call.type_error(text + "; convert one of them"))
    }

    fn bytes(
        call: &Call<'_>,
        name: &str,
        data: &Bound<'py, PyAny>,
        kind: &str,
        width: usize,
    ) -> PyResult<Self> {
        let array = array1::<u8>(call, name, data)?;
        let all = slice(call, name, &array)?;
        // SAFETY: the array is held, and borrowed for reading, as long as the column lives.
        let all = unsafe { forever(all) };
        let keys = if width == 0 { Vec::new() } else { all.chunks(width).collect() };
        let (name, kind) = (name.into(), kind.into());
        Ok(Self { name, kind, keys, _hold: Held(Vec::new()), _array: Some(array), _made: Vec::new() })
    }

    fn objects(call: &Call<'_>, name: &str, objects: Bound<'py, PyTuple>) -> PyResult<Self> {
        let types = Types::new(objects.py())?;
        let mut column = Self::empty(name, objects.len());
        column._hold.0.push(objects.clone().into_any());
        let Some(first) = objects.iter_borrowed().next() else { return Ok(column) };
        let Some(kind) = Kind::of(&types, &first) else {
            return Err(call.type_error(types.no_key(name, &first)));
        };
        column.kind = kind.name().into();
        match kind {
            Kind::Str | Kind::Bytes => {
                objects
                    .iter_borrowed()
                    .enumerate()
                    .try_for_each(|(row, x)| column.text(call, kind, row, &x))?;
            }
            _ => column.encoded(call, &types, &objects, kind)?,
        }
        Ok(column)
    }

    fn mixed(&self, call: &Call<'_>, row: usize, object: &Bound<'py, PyAny>) -> PyErr {
        let (name, kind, got) = (&self.name, &self.kind, object.get_type());
        let got = got.name().map_or_else(|_| "something else".into(), |n| n.to_string());
        let text = format!("'{name}' must be of one type, got {kind} at index 0 and {got} at index {row}");
        call.type_error(text + "; convert them all")
    }

    /// The strings or bytes of a list. Each object is visited once, and announced before: objects lie anywhere.
    fn listed(call: &Call<'_>, name: &str, list: &Bound<'py, PyList>, kind: Kind) -> PyResult<Self> {
        let n = list.len();
        let mut column = Self::empty(name, n);
        column.kind = kind.name().into();
        column._hold.0.reserve(n);
        // SAFETY: `list` is a list, and the interpreter is held.
        let item = |at: usize| unsafe { ffi::PyList_GetItem(list.as_ptr(), at as ffi::Py_ssize_t) };
        for row in 0..n {
            // An error that is made may run a collection, and that Python code which makes the list shorter: then there
            // are too few keys, which is an error.
            let now = list.len();
            if row >= now {
                break;
            }
            if row + OBJECTS_AHEAD < now {
                announce(item(row + OBJECTS_AHEAD));
            }
            // SAFETY: the index is in range. The reference is borrowed from the list, and owned from here on.
            let object = unsafe { Bound::from_borrowed_ptr(list.py(), item(row)) };
            column.text(call, kind, row, &object)?;
            column._hold.0.push(object);
        }
        Ok(column)
    }

    /// A string by its UTF-8, which Python has at hand for ASCII and keeps with the string otherwise; bytes as they are.
    /// The caller holds the object.
    fn text(&mut self, call: &Call<'_>, kind: Kind, row: usize, object: &Bound<'py, PyAny>) -> PyResult<()> {
        if kind == Kind::Bytes {
            let Ok(bytes) = object.cast::<PyBytes>() else {
                return Err(self.mixed(call, row, object));
            };
            // SAFETY: bytes are immutable, and the object is held.
            self.keys.push(unsafe { forever(bytes.as_bytes()) });
            return Ok(());
        }
        let Ok(text) = object.cast::<PyString>() else {
            return Err(self.mixed(call, row, object));
        };
        let mut n: ffi::Py_ssize_t = 0;
        // SAFETY: `object` is a str.
        let at = unsafe { ffi::PyUnicode_AsUTF8AndSize(object.as_ptr(), &raw mut n) };
        if at.is_null() {
            // A lone surrogate. Its bytes are never those of valid text.
            drop(PyErr::take(object.py()));
            self.keep(encode::surrogates(text)?);
            return Ok(());
        }
        // SAFETY: the bytes belong to the string and live as long, and the object is held.
        self.keys.push(unsafe { std::slice::from_raw_parts(at.cast(), n as usize) });
        Ok(())
    }

    fn keep(&mut self, bytes: Bound<'py, PyBytes>) {
        // SAFETY: bytes are immutable, and `_hold` keeps them.
        self.keys.push(unsafe { forever(bytes.as_bytes()) });
        self._hold.0.push(bytes.into_any());
    }

    /// Everything else, written one after another.
    fn encoded(
        &mut self,
        call: &Call<'_>,
        types: &Types<'py>,
        objects: &Bound<'py, PyTuple>,
        kind: Kind,
    ) -> PyResult<()> {
        let mut out = encode::Out { types, call, name: &self.name, row: 0, bytes: Vec::new() };
        let mut ends = Vec::with_capacity(objects.len());
        for (row, object) in objects.iter_borrowed().enumerate() {
            if Kind::of(types, &object) != Some(kind) {
                return Err(self.mixed(call, row, &object));
            }
            out.row = row;
            match kind {
                Kind::Dict | Kind::List => out.json(&object, 0)?,
                Kind::Int => out.int(&object)?,
                _ => out.id(&object, 0)?,
            }
            ends.push(out.bytes.len());
        }
        self._made = out.bytes;
        let mut start = 0;
        for end in ends {
            let key = &self._made[start..end];
            // SAFETY: `_made` is never changed again, and its memory does not move with the column.
            self.keys.push(unsafe { forever(key) });
            start = end;
        }
        Ok(())
    }
}

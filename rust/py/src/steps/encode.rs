//! Ids and chat messages as bytes: a letter for the type, then the value, its length first where it may vary. No key's
//! bytes begin with those of another, so equal bytes are equal values.

use pyo3::ffi;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyBytes, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple, PyType};

use crate::errors::Call;

/// How deep a message or tuple may be nested; a list that holds itself is deeper.
const DEEPEST: usize = 200;

/// Types that only Python knows.
pub(super) struct Types<'py> {
    numpy_int: Bound<'py, PyType>,
    uuid: Bound<'py, PyType>,
}

impl<'py> Types<'py> {
    pub(super) fn new(py: Python<'py>) -> PyResult<Self> {
        let numpy_int = py.import("numpy")?.getattr("integer")?.cast_into()?;
        let uuid = py.import("uuid")?.getattr("UUID")?.cast_into()?;
        Ok(Self { numpy_int, uuid })
    }

    pub(super) fn is_numpy_int(&self, object: &Bound<'_, PyAny>) -> bool {
        object.is_instance(&self.numpy_int).unwrap_or(false)
    }

    pub(super) fn is_uuid(&self, object: &Bound<'_, PyAny>) -> bool {
        object.is_instance(&self.uuid).unwrap_or(false)
    }

    /// What to say of an object that is no key.
    pub(super) fn no_key(&self, name: &str, object: &Bound<'_, PyAny>) -> String {
        if object.is_instance_of::<PyBool>() {
            return format!("'{name}' must not be bools; convert them to ints or strings");
        }
        let got = object.get_type().name().map_or_else(|_| "something else".into(), |n| n.to_string());
        let length = object.getattr("shape").and_then(|s| s.len()).ok();
        let fix = if length.is_some_and(|n| n > 0) {
            "; stack them into one array with a row for each"
        } else if object.is_instance_of::<PyFloat>() || length.is_some() {
            "; round them to ints, or pass ids of your own"
        } else if object.hasattr("model_dump").unwrap_or(false) {
            "; call .model_dump() on each"
        } else {
            ""
        };
        format!(
            "'{name}' must be strings, bytes, ints, UUIDs, tuples or chat messages, got {got} at index 0{fix}"
        )
    }
}

/// A string with lone surrogates as bytes. Runs no Python code, not even that of a subclass.
pub(super) fn surrogates<'py>(text: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyBytes>> {
    // SAFETY: `text` is a str, the names end in 0, and the result is a new reference or null with an error set.
    let bytes = unsafe {
        let made =
            ffi::PyUnicode_AsEncodedString(text.as_ptr(), c"utf-8".as_ptr(), c"surrogatepass".as_ptr());
        Bound::from_owned_ptr_or_err(text.py(), made)?
    };
    Ok(bytes.cast_into()?)
}

/// Bytes of the keys so far.
pub(super) struct Out<'a, 'py> {
    pub(super) types: &'a Types<'py>,
    pub(super) call: &'a Call<'a>,
    pub(super) name: &'a str,
    pub(super) row: usize,
    pub(super) bytes: Vec<u8>,
}

impl<'py> Out<'_, 'py> {
    fn sized(&mut self, letter: u8, bytes: &[u8]) {
        self.bytes.push(letter);
        self.bytes.extend_from_slice(&(bytes.len() as u64).to_le_bytes());
        self.bytes.extend_from_slice(bytes);
    }

    fn text(&mut self, text: &Bound<'py, PyString>) -> PyResult<()> {
        match text.to_str() {
            Ok(valid) => self.sized(b's', valid.as_bytes()),
            Err(_) => self.sized(b's', surrogates(text)?.as_bytes()),
        }
        Ok(())
    }

    /// An int, as arrays have it if it fits: 8 bytes, little end first.
    pub(super) fn int(&mut self, object: &Bound<'py, PyAny>) -> PyResult<()> {
        // SAFETY: the object is live; a failure is read at once.
        let value = unsafe { ffi::PyLong_AsLongLong(object.as_ptr()) };
        if value != -1 {
            self.bytes.extend_from_slice(&value.to_le_bytes());
            return Ok(());
        }
        match PyErr::take(object.py()) {
            None => self.bytes.extend_from_slice(&value.to_le_bytes()),
            Some(_) => {
                // More than 64 bits, so more than 8 bytes: never those of a smaller one.
                let whole = object.call_method0(intern!(object.py(), "__index__"))?;
                let bits: usize = whole.call_method0(intern!(object.py(), "bit_length"))?.extract()?;
                let kwargs = PyDict::new(object.py());
                kwargs.set_item("signed", true)?;
                let bytes = whole.call_method("to_bytes", (bits / 8 + 1 + 8, "little"), Some(&kwargs))?;
                self.bytes.extend_from_slice(bytes.cast_into::<PyBytes>()?.as_bytes());
            }
        }
        Ok(())
    }

    fn sized_int(&mut self, object: &Bound<'py, PyAny>) -> PyResult<()> {
        let start = self.bytes.len() + 9;
        self.sized(b'i', &[]);
        self.int(object)?;
        let n = (self.bytes.len() - start) as u64;
        self.bytes[start - 8..start].copy_from_slice(&n.to_le_bytes());
        Ok(())
    }

    fn check_depth(&self, depth: usize) -> PyResult<()> {
        if depth < DEEPEST {
            return Ok(());
        }
        let text =
            format!("'{}' must be nested at most {DEEPEST} deep, got more at index {}", self.name, self.row);
        Err(self.call.value_error(text))
    }

    /// A UUID, or a tuple of ids.
    pub(super) fn id(&mut self, object: &Bound<'py, PyAny>, depth: usize) -> PyResult<()> {
        self.check_depth(depth)?;
        if let Ok(text) = object.cast::<PyString>() {
            return self.text(text);
        } else if let Ok(bytes) = object.cast::<PyBytes>() {
            self.sized(b'b', bytes.as_bytes());
        } else if let Ok(tuple) = object.cast::<PyTuple>() {
            self.sized(b't', &(tuple.len() as u64).to_le_bytes());
            for item in tuple.iter_borrowed() {
                self.id(&item, depth + 1)?;
            }
        } else if self.types.is_uuid(object) {
            let bytes = object.getattr(intern!(object.py(), "bytes"))?;
            self.sized(b'u', bytes.cast_into::<PyBytes>()?.as_bytes());
        } else if (object.is_instance_of::<PyInt>() && !object.is_instance_of::<PyBool>())
            || self.types.is_numpy_int(object)
        {
            return self.sized_int(object);
        } else {
            let (name, row) = (self.name, self.row);
            let got = object.repr().map_or_else(|_| "something else".into(), |r| r.to_string());
            let text = format!(
                "tuples in '{name}' must hold strings, bytes, ints or UUIDs, got {got} at index {row}"
            );
            return Err(self.call.type_error(text));
        }
        Ok(())
    }

    /// What JSON has, whatever the order of the keys of its objects is.
    pub(super) fn json(&mut self, object: &Bound<'py, PyAny>, depth: usize) -> PyResult<()> {
        self.check_depth(depth)?;
        if let Ok(text) = object.cast::<PyString>() {
            return self.text(text);
        } else if object.is_none() {
            self.bytes.push(b'n');
        } else if let Ok(flag) = object.cast::<PyBool>() {
            self.bytes.push(if flag.is_true() { b'y' } else { b'z' });
        } else if object.is_instance_of::<PyInt>() {
            return self.sized_int(object);
        } else if let Ok(float) = object.cast::<PyFloat>() {
            let value = float.value() + 0.0;
            if !value.is_finite() {
                return Err(self.no_json(object));
            }
            self.bytes.push(b'f');
            self.bytes.extend_from_slice(&value.to_le_bytes());
        } else if let Ok(list) = object.cast::<PyList>() {
            self.sized(b'l', &(list.len() as u64).to_le_bytes());
            for item in list {
                self.json(&item, depth + 1)?;
            }
        } else if let Ok(tuple) = object.cast::<PyTuple>() {
            self.sized(b'l', &(tuple.len() as u64).to_le_bytes());
            for item in tuple.iter_borrowed() {
                self.json(&item, depth + 1)?;
            }
        } else if let Ok(dict) = object.cast::<PyDict>() {
            return self.json_object(dict, depth);
        } else {
            return Err(self.no_json(object));
        }
        Ok(())
    }

    fn json_object(&mut self, dict: &Bound<'py, PyDict>, depth: usize) -> PyResult<()> {
        let mut items = Vec::with_capacity(dict.len());
        for (key, value) in dict.iter() {
            let key = key.cast_into::<PyString>().map_err(|e| self.no_json(&e.into_inner()))?;
            let bytes = match key.to_str() {
                Ok(valid) => valid.as_bytes().to_vec(),
                Err(_) => surrogates(&key)?.as_bytes().to_vec(),
            };
            items.push((bytes, value));
        }
        items.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        self.sized(b'd', &(items.len() as u64).to_le_bytes());
        for (key, value) in items {
            self.sized(b's', &key);
            self.json(&value, depth + 1)?;
        }
        Ok(())
    }

    fn no_json(&self, object: &Bound<'_, PyAny>) -> PyErr {
        let got = object.get_type().name().map_or_else(|_| "something else".into(), |n| n.to_string());
        let got = if object.is_instance_of::<PyFloat>() { object.to_string() } else { got };
        let fix =
            if object.hasattr("model_dump").unwrap_or(false) { "; call .model_dump() on it" } else { "" };
        self.call.type_error(format!(
            "messages in '{}' must hold what JSON has (dicts with string keys, lists, strings, finite numbers, bools, \
             None), got {got} at index {}{fix}",
            self.name, self.row
        ))
    }
}

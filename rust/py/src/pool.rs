//! One rayon pool a process, made at first use and made anew after a fork.
//!
//! A pool inherited through `fork` has no threads in the child, and both using and dropping it would hang. So each
//! entry remembers the process that made it, by its id and by a count of forks (ids are used again); an entry of another
//! process is never touched again. Entries live until
//! the process ends and are reused when the same number of threads is asked for again.

use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicPtr, AtomicUsize, Ordering};

use pyo3::exceptions::{PyRuntimeError, PyRuntimeWarning};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use rollmath_core::Par;

use crate::errors::Call;

struct Entry {
    pid: u32,
    forks: usize,
    threads: usize,
    pool: rayon::ThreadPool,
    next: *const Entry,
}

/// Newest entry of a list that only grows. No lock: a fork may happen while another thread would hold it.
static ENTRIES: AtomicPtr<Entry> = AtomicPtr::new(std::ptr::null_mut());
/// Forks between the process that loaded this module and this one, as far as Python made them.
static FORKS: AtomicUsize = AtomicUsize::new(0);
/// What `set_num_threads` asked for; 0 if it was not called.
static ASKED: AtomicUsize = AtomicUsize::new(0);
/// Work (in elements touched) under which a second thread costs more than it brings.
const SERIAL_BELOW: usize = 65_536;
const MOST: usize = 512;

const VARIABLES: [&str; 3] = ["ROLLMATH_NUM_THREADS", "RAYON_NUM_THREADS", "OMP_NUM_THREADS"];

fn warn(py: Python<'_>, text: &str) {
    let category = py.get_type::<PyRuntimeWarning>();
    if let Ok(text) = std::ffi::CString::new(text)
        && let Err(error) = PyErr::warn(py, &category, &text, 2)
    {
        error.write_unraisable(py, None);
    }
}

fn from_environment(py: Python<'_>) -> usize {
    for name in VARIABLES {
        let Ok(text) = std::env::var(name) else { continue };
        // OMP_NUM_THREADS may be a list, one number a nesting level.
        match text.split(',').next().unwrap_or("").trim().parse::<usize>() {
            Ok(n) if (1..=MOST).contains(&n) => return n,
            Ok(n) if n > MOST => {
                warn(py, &format!("{name}={text} is more than {MOST} threads; using {MOST}"));
                return MOST;
            }
            _ if text.trim().is_empty() => {}
            _ => warn(py, &format!("{name}={text} is not a positive number of threads; ignoring it")),
        }
    }
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let ranks = std::env::var("LOCAL_WORLD_SIZE").ok().and_then(|t| t.trim().parse::<usize>().ok());
    (cores / ranks.unwrap_or(1).max(1)).clamp(1, MOST)
}

/// Number of threads that parallel calls of this process use. The environment is read once, at the first call.
#[pyfunction]
pub(crate) fn num_threads(py: Python<'_>) -> usize {
    match ASKED.load(Ordering::Relaxed) {
        0 => {
            let n = from_environment(py);
            // Read once, so that a bad variable warns once.
            let _ = ASKED.compare_exchange(0, n, Ordering::Relaxed, Ordering::Relaxed);
            n
        }
        n => n,
    }
}

/// Sets it, over any environment variable. Results do not depend on it.
#[pyfunction]
pub(crate) fn set_num_threads(n: &Bound<'_, PyAny>) -> PyResult<()> {
    let call = Call::new("set_num_threads");
    let Ok(number) = n.extract::<i64>() else {
        return Err(call.type_error(format!("'n' must be an integer, got {}", n.get_type().name()?)));
    };
    match usize::try_from(number) {
        Ok(threads) if (1..=MOST).contains(&threads) => {
            ASKED.store(threads, Ordering::Relaxed);
            Ok(())
        }
        _ => Err(call.value_error(format!("'n' must be between 1 and {MOST}, got {number}"))),
    }
}

#[pyfunction]
fn forked() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Has Python count its forks.
pub(crate) fn register(m: &Bound<'_, PyModule>) -> PyResult<()> {
    m.add_function(wrap_pyfunction!(num_threads, m)?)?;
    m.add_function(wrap_pyfunction!(set_num_threads, m)?)?;
    let os = m.py().import("os")?;
    if os.hasattr("register_at_fork")? {
        let options = PyDict::new(m.py());
        options.set_item("after_in_child", wrap_pyfunction!(forked, m)?)?;
        os.call_method("register_at_fork", (), Some(&options))?;
    }
    Ok(())
}

fn pool(threads: usize) -> PyResult<&'static rayon::ThreadPool> {
    let (pid, forks) = (std::process::id(), FORKS.load(Ordering::Relaxed));
    let mut at: *const Entry = ENTRIES.load(Ordering::Acquire);
    // SAFETY: every pointer of the list comes from Box::leak below and is never freed.
    while let Some(entry) = unsafe { at.as_ref() } {
        if (entry.pid, entry.forks, entry.threads) == (pid, forks, threads) {
            return Ok(&entry.pool);
        }
        at = entry.next;
    }
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .thread_name(|i| format!("rollmath-{i}"))
        .build()
        .map_err(|e| PyRuntimeError::new_err(format!("cannot start {threads} threads: {e}")))?;
    let entry = Box::leak(Box::new(Entry { pid, forks, threads, pool, next: std::ptr::null() }));
    let mut head = ENTRIES.load(Ordering::Acquire);
    loop {
        entry.next = head;
        match ENTRIES.compare_exchange(head, entry, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => return Ok(&entry.pool),
            Err(now) => head = now,
        }
    }
}

/// Releases the interpreter and runs `f`, in parallel if there is work for it (`work` = elements touched).
pub(crate) fn run<R: Send>(py: Python<'_>, work: usize, f: impl FnOnce(Par) -> R + Send) -> PyResult<R> {
    let threads = if work < SERIAL_BELOW { 1 } else { num_threads(py) };
    if threads == 1 {
        return Ok(py.detach(|| f(Par::Serial)));
    }
    let pool = pool(threads)?;
    Ok(py.detach(|| pool.install(|| f(Par::Threads))))
}

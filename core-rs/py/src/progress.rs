//! Telling Python how far a long call is.

use p2pet_view::{Phase, Progress};
use pyo3::prelude::*;

/// Works without the GIL and reports to `callback(phase, done, total)`, if there is one, at most four times a second.
///
/// What the callback raises is shown and changes nothing.
pub fn telling<T: Send>(
    py: Python<'_>,
    callback: Option<Py<PyAny>>,
    work: impl FnOnce(&Progress<'_>) -> T + Send,
) -> T {
    py.detach(|| match callback {
        None => work(&Progress::silent()),
        Some(callback) => {
            let tell = |phase: Phase, done: u64, total: u64| {
                Python::attach(|py| {
                    if let Err(error) = callback.call1(py, (phase.name(), done, total)) {
                        error.write_unraisable(py, None);
                    }
                });
            };
            work(&Progress::to(&tell))
        }
    })
}

//! The only crate with PyO3: bytes in, bytes out, typed errors.

mod bytes;
mod check;
mod errors;
mod finality;
mod inspect;
mod locks;
mod notary;
mod progress;
mod segments;
mod signing;
mod store;
mod transaction;

use pyo3::prelude::*;

/// The Rust extension: hashing, proofs, signatures, the log and its view, the notary.
#[pymodule]
fn _core(module: &Bound<'_, PyModule>) -> PyResult<()> {
    errors::register(module)?;
    transaction::register(module)?;
    signing::register(module)?;
    finality::register(module)?;
    check::register(module)?;
    locks::register(module)?;
    store::register(module)?;
    segments::register(module)?;
    notary::register(module)?;
    inspect::register(module)?;
    // The stub file says what is public.
    module.delattr("__all__")
}

//! The exception classes, and how errors of the pure crates become exceptions.

use p2pet_core::Error;
use pyo3::create_exception;
use pyo3::exceptions::PyException;
use pyo3::prelude::*;
use pyo3::type_object::PyTypeInfo;

create_exception!(
    p2petd.native._core,
    NativeError,
    PyException,
    "Base of every error of the extension. `code` is stable, such as \"proof.invalid\"; the text is one sentence."
);
create_exception!(
    p2petd.native._core,
    MalformedError,
    NativeError,
    "Bytes that do not decode: not canonical, truncated, over a cap, of a wrong length."
);
create_exception!(
    p2petd.native._core,
    ProofError,
    NativeError,
    "A tear-off, path, root or certificate that does not prove what it claims."
);
create_exception!(
    p2petd.native._core,
    KeyFormatError,
    NativeError,
    "A key that is not 32 bytes, not canonical, of small order or with torsion."
);
create_exception!(
    p2petd.native._core,
    LogDamagedError,
    NativeError,
    "The log is damaged where it may not be cut; the text names file and offset."
);
create_exception!(
    p2petd.native._core,
    StoreError,
    NativeError,
    "The operating system or LMDB refused; the text says which file and what to do. A failed sync aborts instead."
);

/// An exception of class `T` with its `code`.
pub fn raise<T: PyTypeInfo>(code: &str, message: &str) -> PyErr {
    let error = PyErr::new::<T, _>(message.to_owned());
    Python::attach(|py| match error.value(py).setattr("code", code) {
        Ok(()) => error,
        Err(failure) => failure,
    })
}

/// The exception of a core error.
pub fn native(error: Error) -> PyErr {
    let (code, message) = (error.code(), error.to_string());
    match error {
        Error::Malformed(_) => raise::<MalformedError>(code, &message),
        Error::Proof { .. } => raise::<ProofError>(code, &message),
        Error::Key(_) => raise::<KeyFormatError>(code, &message),
    }
}

/// Adds the classes.
pub fn register(module: &Bound<'_, PyModule>) -> PyResult<()> {
    let py = module.py();
    let base = py.get_type::<NativeError>();
    base.setattr("code", "native")?;
    module.add("NativeError", base)?;
    module.add("MalformedError", py.get_type::<MalformedError>())?;
    module.add("ProofError", py.get_type::<ProofError>())?;
    module.add("KeyFormatError", py.get_type::<KeyFormatError>())?;
    module.add("LogDamagedError", py.get_type::<LogDamagedError>())?;
    module.add("StoreError", py.get_type::<StoreError>())
}

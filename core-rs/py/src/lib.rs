//! The only crate with PyO3: bytes in, bytes out, typed errors.

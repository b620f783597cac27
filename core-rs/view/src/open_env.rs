//! The one place with `unsafe`: opening LMDB.

use std::path::Path;

use heed::{Env, EnvFlags, EnvOpenOptions, WithoutTls};

const READERS_MAX: u32 = 1024;
const DATABASES_MAX: u32 = 1;

/// Opens LMDB without a sync per commit and without a writable map.
pub(crate) fn open_env(directory: &Path, map_bytes: u64) -> heed::Result<Env<WithoutTls>> {
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options
        .map_size(whole_pages(map_bytes))
        .max_readers(READERS_MAX)
        .max_dbs(DATABASES_MAX);
    // SAFETY (flags): without syncs LMDB may be torn by a lost machine, never by a lost process. The mark beside it
    // (`mark`) is durable before the first write, so that such a file is deleted unread and rebuilt from the log.
    // SAFETY (open): nobody else changes the mapped file while it is open, since the caller holds the lock of the
    // directory; the map is read-only, so that no stray pointer of ours can change it either.
    unsafe {
        options.flags(EnvFlags::NO_SYNC | EnvFlags::NO_META_SYNC);
        options.open(directory)
    }
}

/// Opens a file of LMDB's pages that nobody writes to, and changes nothing beside it.
pub(crate) fn open_file(path: &Path) -> heed::Result<Env<WithoutTls>> {
    let bytes = std::fs::metadata(path)?.len();
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(whole_pages(bytes)).max_dbs(DATABASES_MAX);
    // SAFETY (flags): without its lock file LMDB does not see other processes; none has this file open, since the
    // caller holds the lock of the directory.
    // SAFETY (open): nobody changes the mapped file, and the map is read-only. Pages that are not those that were
    // written may still lead LMDB astray: only files whose digest was compared are opened in a process that matters.
    unsafe {
        options.flags(EnvFlags::READ_ONLY | EnvFlags::NO_LOCK | EnvFlags::NO_SUB_DIR);
        options.open(path)
    }
}

/// LMDB takes only multiples of the page size, which is at most this on the machines that we know.
const PAGE_BYTES_MAX: usize = 1 << 16;

fn whole_pages(bytes: u64) -> usize {
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    bytes
        .checked_next_multiple_of(PAGE_BYTES_MAX)
        .unwrap_or(bytes)
}

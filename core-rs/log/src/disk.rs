//! The seam to the operating system: everything that the log asks of it, so that a test can put a worse one there.

use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Which file a name stands for, and how long it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The device that holds it.
    pub device: u64,
    /// Its number there; a deleted file may leave it to the next.
    pub inode: u64,
    /// Nanoseconds since 1970; 0 where the file system keeps no time of birth.
    pub born_ns: u128,
    /// Its length.
    pub bytes: u64,
}

/// An open file. Every call names its place, so that readers share one.
#[allow(clippy::len_without_is_empty)]
pub trait DiskFile: Debug + Send + Sync {
    /// Reads what there is, at most the buffer; 0 at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Fills the buffer. Raises `UnexpectedEof` when the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes everything; after an error any part of it may be there.
    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Makes the data durable, and as much of the metadata as reading it needs.
    fn sync_data(&self) -> io::Result<()>;
    /// Makes the file durable, its name aside.
    fn sync_all(&self) -> io::Result<()>;
    /// Its length.
    fn len(&self) -> io::Result<u64>;
}

/// Holds a lock as long as it lives.
pub trait Held: Debug + Send + Sync {}

/// An operating system's disk. Errors are its own; whoever calls says what was being done.
pub trait Disk: Debug + Send + Sync {
    /// Creates one directory, which is not there.
    fn create_directory(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory, in any order; those that are not UTF-8 are left out, for they are none of ours.
    fn list(&self, directory: &Path) -> io::Result<Vec<String>>;
    /// Opens a file for reading.
    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens a directory, whose sync makes new, changed and removed names in it durable.
    fn open_directory(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Opens an existing file for writing.
    fn open_for_writing(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// An empty file for writing, in place of any other of that name.
    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;
    /// Gives a file another name, whose old file is gone.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a name.
    fn remove(&self, path: &Path) -> io::Result<()>;
    /// What stands under a name; None when nothing does.
    fn facts(&self, path: &Path) -> io::Result<Option<Facts>>;
    /// Bytes that an ordinary user may still write in the file system of this directory.
    fn free_bytes(&self, directory: &Path) -> io::Result<u64>;
    /// Locks a file, which is made if need be; None when another holds it.
    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Held>>>;
    /// Four bytes that nobody can foresee.
    fn random(&self) -> io::Result<u32>;
    /// Names the run of the operating system: another one may have lost what was not synced.
    fn boot_id(&self) -> io::Result<String>;
    /// Somebody who does not write through this seam has made a file durable: LMDB its pages.
    fn synced_elsewhere(&self, path: &Path) {
        let _ = path;
    }
    /// Ends the process after a failed sync: the kernel may have dropped the bytes, and a second sync would succeed
    /// without them, so that only a restart, which reads what is there, is safe.
    fn unsynced(&self, path: &Path, error: &io::Error) -> !;
}

/// A disk that several hold.
pub type SharedDisk = Arc<dyn Disk>;

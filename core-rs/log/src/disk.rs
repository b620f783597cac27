//! The few things that the log asks of a directory.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock, statvfs};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::error::LogError;
use crate::failpoint;

static ZEROS: [u8; 1 << 18] = [0; 1 << 18];
const LOCK_NAME: &str = "lock";
/// Files with this ending were never part of the log: a crash left them.
pub(crate) const UNFINISHED: &str = ".tmp";

/// The right to use a directory; the kernel takes it back when the process ends, however it ends.
#[derive(Debug)]
pub struct DirectoryLock {
    directory: PathBuf,
    _file: File,
}

impl DirectoryLock {
    /// Creates the directory if need be and takes its lock. Raises `Locked` at once when another holds it.
    pub fn take(directory: &Path) -> Result<Self, LogError> {
        failpoint::arm_from_environment()?;
        fs::create_dir_all(directory).map_err(|e| LogError::io("create", directory, e))?;
        let path = directory.join(LOCK_NAME);
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| LogError::io("open", &path, e))?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                directory: directory.to_path_buf(),
                _file: file,
            }),
            Err(Errno::WOULDBLOCK) => Err(LogError::Locked {
                directory: directory.to_path_buf(),
            }),
            Err(e) => Err(LogError::io("lock", &path, e.into())),
        }
    }

    /// The directory that is locked.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

/// Makes renames and new names in the directory durable. A failure aborts the process.
pub(crate) fn sync_directory(directory: &Path) -> Result<(), LogError> {
    let file = File::open(directory).map_err(|e| LogError::io("open", directory, e))?;
    file.sync_all()
        .unwrap_or_else(|e| abort_unsynced(directory, &e));
    Ok(())
}

/// Makes a file durable. A failure aborts the process.
pub(crate) fn sync_file(file: &File, path: &Path) {
    file.sync_all().unwrap_or_else(|e| abort_unsynced(path, &e));
}

/// Makes a file's data durable. A failure aborts the process.
pub(crate) fn sync_data(file: &File, path: &Path) {
    file.sync_data()
        .unwrap_or_else(|e| abort_unsynced(path, &e));
}

/// After a failed sync the kernel may have dropped the bytes and a second sync would succeed without them, so that
/// only a restart, which reads what is there, is safe.
fn abort_unsynced(path: &Path, error: &io::Error) -> ! {
    eprintln!(
        "p2petd: syncing {} failed ({error}); stopping, since what the disk holds is unknown",
        path.display()
    );
    std::process::abort()
}

/// Four bytes that nobody can foresee, for the segment at `path`.
pub(crate) fn random_salt(path: &Path) -> Result<u32, LogError> {
    let mut bytes = [0; 4];
    // Fewer than 256 bytes are never cut short.
    getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|e| LogError::io("draw random bytes for", path, e.into()))?;
    Ok(u32::from_be_bytes(bytes))
}

/// Writes a file of `size` bytes that starts with `content` and ends in zeros; durable when it returns.
///
/// Every block is written once, so that a later sync of data in it has no metadata to write. The file stands under
/// its name whole or not at all.
pub(crate) fn create_durable(
    path: &Path,
    content: &mut dyn Read,
    size: u64,
) -> Result<(), LogError> {
    let unfinished = path.with_extension(format!("log{UNFINISHED}"));
    match write_zero_padded(&unfinished, content, size) {
        Ok(file) => sync_file(&file, &unfinished),
        Err(error) => {
            // On a full disk the part that was written would keep what little space somebody frees.
            let _ = fs::remove_file(&unfinished);
            return Err(LogError::io("write", &unfinished, error));
        }
    }
    rename_durably(&unfinished, path)
}

fn write_zero_padded(path: &Path, content: &mut dyn Read, size: u64) -> io::Result<File> {
    let mut file = File::create(path)?;
    let mut written = io::copy(content, &mut file)?;
    while written < size {
        let chunk = usize::try_from(size - written)
            .unwrap_or(usize::MAX)
            .min(ZEROS.len());
        file.write_all(ZEROS.get(..chunk).unwrap_or_default())?;
        written += chunk as u64;
    }
    Ok(file)
}

/// Replaces a small file: after a crash it holds the old bytes or the new ones.
pub fn replace_file(path: &Path, bytes: &[u8]) -> Result<(), LogError> {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    let unfinished = PathBuf::from(name);
    let failed = |e| LogError::io("write", &unfinished, e);
    let mut file = File::create(&unfinished).map_err(failed)?;
    file.write_all(bytes).map_err(failed)?;
    sync_file(&file, &unfinished);
    rename_durably(&unfinished, path)
}

fn rename_durably(from: &Path, to: &Path) -> Result<(), LogError> {
    fs::rename(from, to).map_err(|e| LogError::io("rename", from, e))?;
    match to.parent() {
        Some(directory) => sync_directory(directory),
        None => Ok(()),
    }
}

/// Removes what a crash left unfinished.
pub(crate) fn remove_unfinished(directory: &Path) -> Result<(), LogError> {
    let failed = |e| LogError::io("list", directory, e);
    for entry in fs::read_dir(directory).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        if path.to_string_lossy().ends_with(UNFINISHED) {
            match fs::remove_file(&path) {
                Err(e) if e.kind() != ErrorKind::NotFound => {
                    return Err(LogError::io("remove", &path, e));
                }
                _ => {}
            }
        }
    }
    Ok(())
}

/// Bytes that an ordinary user may still write in the file system of this directory.
pub fn free_bytes(directory: &Path) -> Result<u64, LogError> {
    let stat = statvfs(directory).map_err(|e| LogError::io("look at", directory, e.into()))?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}

//! Files that stand under their name whole or not at all, whenever the machine stops.

use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};

use crate::disk::{Disk, DiskFile};
use crate::error::LogError;
use crate::failpoint::{self, Failpoint};

static ZEROS: [u8; 1 << 18] = [0; 1 << 18];
const COPIED_BYTES: usize = 1 << 18;
/// Files with this ending were never part of anything: a crash left them.
pub const UNFINISHED: &str = ".tmp";

/// Makes a file durable, its name aside. A failure ends the process.
pub(crate) fn sync_file(disk: &dyn Disk, file: &dyn DiskFile, path: &Path) {
    file.sync_all().unwrap_or_else(|e| disk.unsynced(path, &e));
    failpoint::pass(Failpoint::DiskFileSynced);
}

/// An open directory whose names are to be made durable.
struct Names<'d> {
    disk: &'d dyn Disk,
    path: &'d Path,
    file: Box<dyn DiskFile>,
}

impl<'d> Names<'d> {
    /// Opened before a name is changed, so that nothing but the sync itself can fail after the change.
    fn of_parent(disk: &'d dyn Disk, path: &'d Path) -> Result<Self, LogError> {
        Self::open(disk, parent_of(path))
    }

    fn open(disk: &'d dyn Disk, path: &'d Path) -> Result<Self, LogError> {
        let file = disk.open_directory(path);
        let file = file.map_err(|e| LogError::io("open", path, e))?;
        Ok(Self { disk, path, file })
    }

    fn sync(&self) {
        let synced = self.file.sync_all();
        synced.unwrap_or_else(|e| self.disk.unsynced(self.path, &e));
        failpoint::pass(Failpoint::DiskDirectorySynced);
    }
}

fn parent_of(path: &Path) -> &Path {
    let parent = path
        .parent()
        .filter(|parent| !parent.as_os_str().is_empty());
    parent.unwrap_or(Path::new("."))
}

/// Makes the names in a directory durable, whoever changed them. A failed sync ends the process.
pub fn sync_directory(disk: &dyn Disk, directory: &Path) -> Result<(), LogError> {
    Names::open(disk, directory).map(|names| names.sync())
}

/// Creates a directory and those above it; its own name is durable, theirs are not (see `sync_ancestors`).
pub fn create_directories(disk: &dyn Disk, path: &Path) -> Result<(), LogError> {
    let there = disk.facts(path);
    if there
        .map_err(|e| LogError::io("look at", path, e))?
        .is_none()
    {
        if let Some(parent) = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
        {
            create_directories(disk, parent)?;
        }
        let created = disk.create_directory(path);
        created.map_err(|e| LogError::io("create", path, e))?;
        failpoint::pass(Failpoint::DiskDirectoryCreated);
    }
    // Also of one that was there: whoever made it may have been killed before its name was durable.
    sync_unless_foreign(disk, parent_of(path)).map(|_| ())
}

/// Makes the names of a directory and of all those above it durable, as far as they are in the same file system and
/// this process may look at them: done once, before anything that may not be lost is below them.
pub(crate) fn sync_ancestors(disk: &dyn Disk, directory: &Path) -> Result<(), LogError> {
    let device = |path: &Path| {
        let facts = disk.facts(path);
        let facts = facts.map_err(|e| LogError::io("look at", path, e))?;
        Ok::<_, LogError>(facts.map(|facts| facts.device))
    };
    let here = device(directory)?;
    for ancestor in directory.ancestors().skip(1) {
        let ancestor = match ancestor.as_os_str().is_empty() {
            true => Path::new("."),
            false => ancestor,
        };
        if device(ancestor)? != here || !sync_unless_foreign(disk, ancestor)? {
            break;
        }
    }
    Ok(())
}

/// Whether the names in it could be synced; a directory that this process may not read is none that it made.
fn sync_unless_foreign(disk: &dyn Disk, directory: &Path) -> Result<bool, LogError> {
    match Names::open(disk, directory) {
        Err(LogError::Io { source, .. }) if source.kind() == ErrorKind::PermissionDenied => {
            Ok(false)
        }
        names => {
            names?.sync();
            Ok(true)
        }
    }
}

/// Writes a file of `size` bytes that starts with `content` and ends in zeros; durable when it returns.
///
/// Every block is written once, so that a later sync of data in it has no metadata to write. The file stands under
/// its name whole or not at all. Returned open for writing: once it has its name nothing can fail any more.
pub(crate) fn create_durable(
    disk: &dyn Disk,
    path: &Path,
    content: &mut dyn Read,
    size: u64,
) -> Result<Box<dyn DiskFile>, LogError> {
    let mut name = path.as_os_str().to_owned();
    name.push(UNFINISHED);
    let unfinished = PathBuf::from(name);
    let written = write_zero_padded(disk, &unfinished, content, size);
    let written = written.map_err(|e| LogError::io("write", &unfinished, e));
    let named = written.and_then(|file| {
        sync_file(disk, file.as_ref(), &unfinished);
        rename_durably(disk, &unfinished, path)?;
        Ok(file)
    });
    if named.is_err() {
        // On a full disk the part that was written would keep what little space somebody frees.
        let _ = disk.remove(&unfinished);
    }
    named
}

fn write_zero_padded(
    disk: &dyn Disk,
    path: &Path,
    content: &mut dyn Read,
    size: u64,
) -> io::Result<Box<dyn DiskFile>> {
    let file = disk.create(path)?;
    failpoint::pass(Failpoint::DiskFileCreated);
    let mut written = 0;
    let mut write = |bytes: &[u8]| {
        file.write_all_at(bytes, written)?;
        failpoint::pass(Failpoint::DiskPartWritten);
        written += bytes.len() as u64;
        Ok::<_, io::Error>(written)
    };
    let mut buffer = vec![0; COPIED_BYTES];
    let mut end = 0;
    loop {
        match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => end = write(buffer.get(..n).unwrap_or_default())?,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    while end < size {
        let left = usize::try_from(size - end).unwrap_or(usize::MAX);
        end = write(ZEROS.get(..left.min(ZEROS.len())).unwrap_or_default())?;
    }
    Ok(file)
}

/// Replaces a small file: after a crash it holds the old bytes or the new ones. Raises with the old ones in place.
pub fn replace_file(disk: &dyn Disk, path: &Path, bytes: &[u8]) -> Result<(), LogError> {
    create_durable(disk, path, &mut &*bytes, 0).map(|_| ())
}

/// Gives a durable file its name; after a crash it has the old name or the new one, and the new one once this
/// returned. Both are names in one directory.
pub fn rename_durably(disk: &dyn Disk, from: &Path, to: &Path) -> Result<(), LogError> {
    let names = Names::of_parent(disk, to)?;
    let renamed = disk.rename(from, to);
    renamed.map_err(|e| LogError::io("rename", from, e))?;
    failpoint::pass(Failpoint::DiskRenamed);
    names.sync();
    Ok(())
}

/// Removes a file; after a crash it is there whole or not at all, and not again once this returned.
pub fn remove_durably(disk: &dyn Disk, path: &Path) -> Result<(), LogError> {
    let names = Names::of_parent(disk, path)?;
    let removed = disk.remove(path);
    removed.map_err(|e| LogError::io("remove", path, e))?;
    failpoint::pass(Failpoint::DiskRemoved);
    names.sync();
    Ok(())
}

/// Removes a file, if there is one, and leaves it to others to make that durable.
pub fn remove_if_there(disk: &dyn Disk, path: &Path) -> Result<(), LogError> {
    match disk.remove(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        removed => removed.map_err(|e| LogError::io("remove", path, e))?,
    }
    failpoint::pass(Failpoint::DiskRemoved);
    Ok(())
}

/// Makes a file durable that somebody wrote beside the seam, its name aside. A failed sync ends the process.
pub fn sync_path(disk: &dyn Disk, path: &Path) -> Result<(), LogError> {
    let file = disk.open_for_writing(path);
    let file = file.map_err(|e| LogError::io("open", path, e))?;
    sync_file(disk, file.as_ref(), path);
    Ok(())
}

/// Removes what a crash left unfinished; should it come back, the next start removes it again.
pub(crate) fn remove_unfinished(disk: &dyn Disk, directory: &Path) -> Result<(), LogError> {
    let names = disk.list(directory);
    for name in names.map_err(|e| LogError::io("list", directory, e))? {
        if name.ends_with(UNFINISHED) {
            remove_if_there(disk, &directory.join(name))?;
        }
    }
    Ok(())
}

/// The bytes of a small file, at most so many; None when there is none.
pub fn read_file(
    disk: &dyn Disk,
    path: &Path,
    bytes_max: usize,
) -> Result<Option<Vec<u8>>, LogError> {
    let failed = |e| LogError::io("read", path, e);
    let file = match disk.open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
        opened => opened.map_err(failed)?,
    };
    let bytes = usize::try_from(file.len().map_err(failed)?).unwrap_or(usize::MAX);
    let mut bytes = vec![0; bytes.min(bytes_max)];
    file.read_exact_at(&mut bytes, 0).map_err(failed)?;
    Ok(Some(bytes))
}

/// Bytes that an ordinary user may still write in the file system of this directory.
pub fn free_bytes(disk: &dyn Disk, directory: &Path) -> Result<u64, LogError> {
    let free = disk.free_bytes(directory);
    free.map_err(|e| LogError::io("look at", directory, e))
}

//! Making a snapshot beside running commits.
//!
//! 1. LMDB copies the view of one moment, without its free pages, into a pipe; this side writes the file in parts, each
//!    synced before the next, so that commits find the disk free again and again.
//! 2. The file is read again: its digest must be that of what was written, its head a record, its rows as many as LMDB
//!    counts.
//! 3. It gets its name, and last its description.
//!
//! What fails on the way costs the snapshot alone.

use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use p2pet_log::disk::Disk;
use p2pet_log::failpoint::{self, Failpoint};
use p2pet_log::files::{create_directories, sync_path};
use p2pet_log::{Base, LogError};

use crate::description::Description;
use crate::error::StoreError;
use crate::snapshots::{Digesting, Found, Snapshots};
use crate::view::View;

/// Bytes that are synced before more are written.
const PART_BYTES: u64 = 4 << 20;
const CHUNK_BYTES: usize = 1 << 16;

/// Makes a snapshot of the view; `stop` ends it early. Raises `Closed` then, and what the disk and LMDB refuse.
pub(crate) fn take(
    view: &View,
    snapshots: &Snapshots,
    stop: &AtomicBool,
) -> Result<Description, StoreError> {
    create_directories(snapshots.disk(), snapshots.directory())?;
    snapshots.remove_leftovers()?;
    let made = make(view, snapshots, stop);
    if made.is_err() {
        // On a full disk the part that was written would keep what little space somebody frees.
        let _ = snapshots.disk().remove(&snapshots.unfinished());
    }
    made
}

fn make(view: &View, snapshots: &Snapshots, stop: &AtomicBool) -> Result<Description, StoreError> {
    let path = snapshots.unfinished();
    let (bytes, digest) = copy(view, snapshots.disk(), &path, stop)?;
    failpoint::pass(Failpoint::SnapshotSynced);
    let base = read_back(&path)?;
    let description = Description {
        base,
        bytes,
        digest,
    };
    let written = Found {
        sequence: base.sequence,
        pages: path.clone(),
        description: Some(description),
    };
    if let Err(why) = written.check(snapshots.disk())? {
        return Err(StoreError::BadSnapshot { path, why });
    }
    failpoint::pass(Failpoint::SnapshotChecked);
    snapshots.place(&description)?;
    Ok(description)
}

fn copy(
    view: &View,
    disk: &dyn Disk,
    path: &Path,
    stop: &AtomicBool,
) -> Result<(u64, [u8; 32]), StoreError> {
    let failed = |e| LogError::io("write", path, e);
    let (reader, writer) = io::pipe().map_err(|e| LogError::io("make a pipe for", path, e))?;
    let mut file = Digesting::new(Some(disk.create(path).map_err(failed)?));
    let (written, copied) = std::thread::scope(|scope| {
        let copying = scope.spawn(|| view.copy_to(&mut File::from(OwnedFd::from(writer))));
        // Dropping the reader ends the copying with a broken pipe when the writing has failed.
        let written = write_parts(reader, &mut file, stop);
        (written, copying.join())
    });
    if !written.map_err(failed)? {
        return Err(view.closed());
    }
    match copied {
        Ok(copied) => copied?,
        Err(_) => {
            let path = path.to_path_buf();
            let why = "copying the view's pages failed";
            return Err(StoreError::BadSnapshot { path, why });
        }
    }
    failpoint::pass(Failpoint::SnapshotCopied);
    sync_path(disk, path)?;
    Ok((file.bytes, file.digest()))
}

/// Whether all of it was written; false when `stop` says so.
fn write_parts(mut from: impl Read, file: &mut Digesting, stop: &AtomicBool) -> io::Result<bool> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut synced = 0;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Ok(false);
        }
        match from.read(&mut chunk) {
            Ok(0) => return Ok(true),
            Ok(n) => file.write(chunk.get(..n).unwrap_or_default())?,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
        if file.bytes - synced >= PART_BYTES {
            if let Some(file) = &file.file {
                file.sync_data()?;
                failpoint::pass(Failpoint::DiskFileSynced);
            }
            synced = file.bytes;
        }
    }
}

/// Opens the pages as a view of their own and walks all rows.
fn read_back(path: &Path) -> Result<Base, StoreError> {
    let copy = View::open_file(path)?;
    let snapshot = copy.snapshot()?;
    let head = snapshot.head()?;
    if head.sequence == 0 || snapshot.count_rows()? != snapshot.rows()? {
        let (path, why) = (path.to_path_buf(), "it lacks rows of the view");
        return Err(StoreError::BadSnapshot { path, why });
    }
    Ok(Base {
        sequence: head.sequence,
        chain_value: head.chain_value,
    })
}

//! The snapshots of a view beside its log: which there are, which of them are whole, and the way back from one.
//!
//! A snapshot is `<20-digit sequence>.mdb`, the compacted pages of the view after that record, and
//! `<20-digit sequence>.snapshot`, a description with the digest of these pages, which is written last and removed
//! first: pages without a description were never a snapshot, and the next opening removes them.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use p2pet_log::LogError;
use p2pet_log::disk::{Disk, DiskFile, SharedDisk};
use p2pet_log::failpoint::{self, Failpoint};
use p2pet_log::files::{UNFINISHED, remove_durably, remove_if_there, rename_durably, replace_file};
use sha2::{Digest, Sha256};

use crate::description::{Description, Sha};
use crate::progress::{Phase, Progress};

/// The newest ones that stay.
pub const SNAPSHOTS_KEPT: usize = 2;

const DIRECTORY: &str = "snapshots";
const PAGES: &str = "mdb";
const DESCRIPTION: &str = "snapshot";
const DESCRIPTION_BYTES_MAX: usize = 1024;
const CHUNK_BYTES: usize = 1 << 20;

/// A snapshot that is there, whole or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The record that its name says.
    pub sequence: u64,
    /// Its pages.
    pub pages: PathBuf,
    /// None when the description cannot be read.
    pub description: Option<Description>,
}

impl Description {
    fn matches(self, read: &Digesting) -> Result<Self, &'static str> {
        if read.bytes != self.bytes || read.digest() != self.digest {
            return Err("its pages are not those that were written");
        }
        Ok(self)
    }
}

impl Found {
    /// Reads all pages and compares their digest; one clause says what is wrong. Raises `Io`.
    pub fn check(&self, disk: &dyn Disk) -> Result<Result<Description, &'static str>, LogError> {
        let Some(description) = self.description else {
            return Ok(Err("its description cannot be read"));
        };
        let Some(file) = open_if_there(disk, &self.pages)? else {
            return Ok(Err("its pages are gone"));
        };
        let mut pages = Digesting::new(None);
        let read = pages.take(file.as_ref(), |_| {});
        read.map_err(|e| LogError::io("read", &self.pages, e))?;
        Ok(description.matches(&pages))
    }

    fn restore(
        &self,
        disk: &dyn Disk,
        to: &Path,
        progress: &Progress<'_>,
    ) -> Result<Option<Description>, LogError> {
        let Some(description) = self.description else {
            return Ok(None);
        };
        let unfinished = to.with_extension(format!("{PAGES}{UNFINISHED}"));
        if copy_checked(disk, &self.pages, &unfinished, &description, progress)? {
            failpoint::pass(Failpoint::SnapshotCopiedBack);
            let renamed = disk.rename(&unfinished, to);
            renamed.map_err(|e| LogError::io("rename", &unfinished, e))?;
            return Ok(Some(description));
        }
        remove_if_there(disk, &unfinished)?;
        Ok(None)
    }
}

/// The directory of the snapshots of one view.
#[derive(Clone, Debug)]
pub struct Snapshots {
    disk: SharedDisk,
    directory: PathBuf,
}

impl Snapshots {
    /// Those of the store in `directory`; nothing is read yet.
    pub fn of(disk: SharedDisk, directory: &Path) -> Self {
        Self {
            disk,
            directory: directory.join(DIRECTORY),
        }
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// Where the pages are written before it is known what they are.
    pub(crate) fn unfinished(&self) -> PathBuf {
        self.directory.join(format!("new.{PAGES}{UNFINISHED}"))
    }

    /// All of them, newest first. Raises `Io`.
    pub fn list(&self) -> Result<Vec<Found>, LogError> {
        let mut found = Vec::new();
        for name in self.names()? {
            let Some(sequence) = sequence_of(&name, DESCRIPTION) else {
                continue;
            };
            let path = self.directory.join(name);
            let description = read_description(self.disk(), &path)?;
            found.push(Found {
                sequence,
                pages: path.with_extension(PAGES),
                description: description.filter(|d| d.base.sequence == sequence),
            });
        }
        found.sort_unstable_by_key(|one| std::cmp::Reverse(one.sequence));
        Ok(found)
    }

    /// Removes what a crash left of one that was being made or removed. Raises `Io`.
    pub(crate) fn remove_leftovers(&self) -> Result<(), LogError> {
        let names = self.names()?;
        for name in &names {
            let nameless = sequence_of(name, PAGES)
                .is_some_and(|sequence| !names.contains(&file_name(sequence, DESCRIPTION)));
            if nameless || name.ends_with(UNFINISHED) {
                remove_if_there(self.disk(), &self.directory.join(name))?;
            }
        }
        Ok(())
    }

    /// Gives the unfinished pages their name and their description; a snapshot when it returns, whatever happens.
    pub(crate) fn place(&self, description: &Description) -> Result<(), LogError> {
        let sequence = description.base.sequence;
        // One of the same record that is not whole gives way first.
        remove_if_there(self.disk(), &self.path(sequence, DESCRIPTION))?;
        rename_durably(self.disk(), &self.unfinished(), &self.path(sequence, PAGES))?;
        failpoint::pass(Failpoint::SnapshotPlaced);
        let path = self.path(sequence, DESCRIPTION);
        replace_file(self.disk(), &path, description.format().as_bytes())?;
        failpoint::pass(Failpoint::SnapshotDescribed);
        Ok(())
    }

    /// Removes all but the newest ones.
    pub(crate) fn remove_old(&self) -> Result<(), LogError> {
        for snapshot in self.list()?.into_iter().skip(SNAPSHOTS_KEPT) {
            remove_durably(self.disk(), &self.path(snapshot.sequence, DESCRIPTION))?;
            failpoint::pass(Failpoint::SnapshotForgotten);
            remove_if_there(self.disk(), &snapshot.pages)?;
        }
        Ok(())
    }

    /// Puts the pages of the newest whole snapshot at `to`, which does not exist; None when none is whole.
    ///
    /// What is read is what is compared with the digest, so that no bit that was flipped is ever used. Nothing is
    /// synced: a view that was not closed cleanly is not believed after the machine is lost.
    pub(crate) fn restore(
        &self,
        to: &Path,
        progress: &Progress<'_>,
    ) -> Result<Option<Description>, LogError> {
        for found in self.list()? {
            if let Some(description) = found.restore(self.disk(), to, progress)? {
                return Ok(Some(description));
            }
        }
        Ok(None)
    }

    /// The same with the snapshot of one record.
    pub(crate) fn restore_one(
        &self,
        sequence: u64,
        to: &Path,
        progress: &Progress<'_>,
    ) -> Result<Option<Description>, LogError> {
        let mut found = self.list()?.into_iter();
        match found.find(|found| found.sequence == sequence) {
            Some(found) => found.restore(self.disk(), to, progress),
            None => Ok(None),
        }
    }

    fn path(&self, sequence: u64, extension: &str) -> PathBuf {
        self.directory.join(file_name(sequence, extension))
    }

    fn names(&self) -> Result<Vec<String>, LogError> {
        match self.disk.list(&self.directory) {
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            names => names.map_err(|e| LogError::io("list", &self.directory, e)),
        }
    }
}

/// Whether the pages that were copied are those of the description.
fn copy_checked(
    disk: &dyn Disk,
    from: &Path,
    to: &Path,
    description: &Description,
    progress: &Progress<'_>,
) -> Result<bool, LogError> {
    let Some(pages) = open_if_there(disk, from)? else {
        return Ok(false);
    };
    let file = disk.create(to);
    let file = file.map_err(|e| LogError::io("create", to, e))?;
    let mut copy = Digesting::new(Some(file));
    let copied = copy.take(pages.as_ref(), |done| {
        progress.at(Phase::RestoringSnapshot, done, description.bytes);
    });
    copied.map_err(|e| LogError::io("copy a snapshot to", to, e))?;
    Ok(description.matches(&copy).is_ok())
}

/// A file that is written from its start, with what it is so far.
pub(crate) struct Digesting {
    pub(crate) file: Option<Box<dyn DiskFile>>,
    pub(crate) bytes: u64,
    sha: Sha256,
}

impl Digesting {
    /// Of a file that was just created; None writes to nobody.
    pub(crate) fn new(file: Option<Box<dyn DiskFile>>) -> Self {
        if file.is_some() {
            failpoint::pass(Failpoint::DiskFileCreated);
        }
        Self {
            file,
            bytes: 0,
            sha: Sha256::new(),
        }
    }

    pub(crate) fn write(&mut self, chunk: &[u8]) -> io::Result<()> {
        if let Some(file) = &self.file {
            file.write_all_at(chunk, self.bytes)?;
            failpoint::pass(Failpoint::DiskPartWritten);
        }
        self.sha.update(chunk);
        self.bytes += chunk.len() as u64;
        Ok(())
    }

    /// Raises what the writing raises. It ends where `from` cannot be read: the digest then says that this is not it,
    /// so that a bad sector costs one snapshot and never the start.
    fn take(&mut self, from: &dyn DiskFile, tell: impl Fn(u64)) -> io::Result<()> {
        let mut chunk = vec![0; CHUNK_BYTES];
        loop {
            match from.read_at(&mut chunk, self.bytes) {
                Ok(0) => return Ok(()),
                Ok(n) => self.write(chunk.get(..n).unwrap_or_default())?,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(_) => return Ok(()),
            }
            tell(self.bytes);
        }
    }

    pub(crate) fn digest(&self) -> Sha {
        self.sha.clone().finalize().into()
    }
}

fn open_if_there(disk: &dyn Disk, path: &Path) -> Result<Option<Box<dyn DiskFile>>, LogError> {
    match disk.open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
        opened => opened.map(Some).map_err(|e| LogError::io("open", path, e)),
    }
}

fn read_description(disk: &dyn Disk, path: &Path) -> Result<Option<Description>, LogError> {
    let Some(file) = open_if_there(disk, path)? else {
        return Ok(None);
    };
    let mut bytes = [0; DESCRIPTION_BYTES_MAX];
    // One that cannot be read is none.
    let read = file.read_at(&mut bytes, 0).unwrap_or_default();
    let text = std::str::from_utf8(bytes.get(..read).unwrap_or_default());
    Ok(text.ok().and_then(Description::parse))
}

fn file_name(sequence: u64, extension: &str) -> String {
    format!("{sequence:020}.{extension}")
}

fn sequence_of(name: &str, extension: &str) -> Option<u64> {
    let digits = name.strip_suffix(extension)?.strip_suffix('.')?;
    let well_formed = digits.len() == 20 && digits.bytes().all(|byte| byte.is_ascii_digit());
    well_formed.then(|| digits.parse().ok()).flatten()
}

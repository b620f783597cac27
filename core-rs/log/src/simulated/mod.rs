//! A disk for tests: real files, and beside them what a loss of power would leave of them.
//!
//! Only what was synced is sure to survive: of every other write any part does, in sectors of 512 bytes and in any
//! order, and of every other change of a name, all or nothing. Whoever writes to the files beside the seam, as LMDB
//! does, has nothing durable until it says `synced_elsewhere`. Everything follows from seeds.

mod dice;
mod file;
mod image;
mod model;
mod trace;

use std::fmt;
use std::io;
use std::ops::Range;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile, Facts, Held, SharedDisk};
use crate::real::RealDisk;
pub use dice::{Dice, SEED_VARIABLE, seed_from_environment};
use file::{FileKind, SimFile};
pub use image::Image;
use model::Model;
use trace::Trace;
pub(crate) use trace::record_pass;
pub use trace::{Event, Kind};

/// What unwinds in place of the end of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProcessEnded;

/// What an operation does instead of its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Unwinds with `ProcessEnded`.
    End,
    /// Raises EIO; of a write, half is done.
    Io,
    /// Raises ENOSPC; of a write, half is done.
    NoSpace,
}

impl Failure {
    fn error(self) -> io::Error {
        let number = match self {
            Self::NoSpace => rustix::io::Errno::NOSPC,
            Self::End | Self::Io => rustix::io::Errno::IO,
        };
        number.into()
    }
}

struct State {
    model: Model,
    dice: Dice,
    boot: u64,
    operations: u64,
    syncs: u64,
    planned: Option<(Range<u64>, Failure)>,
    last_sync: Option<u64>,
    ended: bool,
    capacity: Option<u64>,
}

struct Shared {
    root: PathBuf,
    state: Mutex<State>,
    trace: Trace,
}

/// A disk under a real directory. Clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Shared>);

impl fmt::Debug for SimDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SimDisk({})", self.0.root.display())
    }
}

impl SimDisk {
    /// The disk under this directory; what is there already is durable.
    pub fn new(root: &Path, seed: u64) -> io::Result<Self> {
        let state = State {
            model: Model::new(root)?,
            dice: Dice::new(seed),
            boot: 0,
            operations: 0,
            syncs: 0,
            planned: None,
            last_sync: None,
            ended: false,
            capacity: None,
        };
        Ok(Self(Arc::new(Shared {
            root: root.to_path_buf(),
            state: Mutex::new(state),
            trace: Trace::default(),
        })))
    }

    /// To hand on.
    pub fn shared(&self) -> SharedDisk {
        Arc::new(self.clone())
    }

    /// The directory that is the disk.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// How many operations there were.
    pub fn operations(&self) -> u64 {
        self.state().operations
    }

    /// How many of them were syncs.
    pub fn syncs(&self) -> u64 {
        self.state().syncs
    }

    /// Everything that happened, failpoints among it.
    pub fn trace(&self) -> Vec<Event> {
        self.0.trace.events()
    }

    /// Plans that the operation with this number, from 1, fails; those after it work again.
    pub fn fail_at(&self, operation: u64, failure: Failure) {
        self.fail_in(operation..operation.saturating_add(1), failure);
    }

    /// Plans that all operations with these numbers fail.
    pub fn fail_in(&self, operations: Range<u64>, failure: Failure) {
        self.state().planned = Some((operations, failure));
    }

    /// Plans that the process ends before the sync with this number, from 1, of those from now on.
    pub fn end_at_sync(&self, sync: u64) {
        let mut state = self.state();
        state.last_sync = Some(state.syncs + sync);
    }

    /// Nothing fails any more.
    pub fn mend(&self) {
        let mut state = self.state();
        (state.planned, state.last_sync) = (None, None);
    }

    /// Room for this many bytes in all files; None for any.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.state().capacity = bytes;
    }

    /// The process that ended starts again: nothing is lost, and what a failed sync dropped still shows.
    pub fn restart(&self) {
        self.state().ended = false;
    }

    /// The machine loses its power and starts again: the files become one of the images, the boot is another one.
    pub fn power_loss(&self, seed: u64) -> io::Result<()> {
        self.image(seed)?.write_to(&self.0.root)?;
        let mut state = self.state();
        state.model = Model::new(&self.0.root)?;
        state.boot += 1;
        state.ended = false;
        Ok(())
    }

    /// A tree that a loss of power at this moment can leave.
    pub fn image(&self, seed: u64) -> io::Result<Image> {
        self.state().model.image(&mut Dice::new(seed))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        let state = self.0.state.lock();
        state.unwrap_or_else(PoisonError::into_inner)
    }

    fn relative<'p>(&self, path: &'p Path) -> &'p Path {
        path.strip_prefix(&self.0.root).unwrap_or(path)
    }

    /// Counts an operation; unwinds or raises when it is the one that is planned to.
    fn operation(&self, kind: Kind, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        if state.ended {
            // Destructors run while it unwinds; a process that ended does nothing any more.
            return Err(Failure::Io.error());
        }
        self.0
            .trace
            .operation(kind, self.relative(path).to_path_buf());
        state.operations += 1;
        state.syncs += u64::from(kind.is_sync());
        let planned = state.planned.as_ref();
        let planned = planned.filter(|(planned, _)| planned.contains(&state.operations));
        let mut failure = planned.map(|(_, failure)| *failure);
        if kind.is_sync() && state.last_sync == Some(state.syncs) {
            failure = Some(Failure::End);
        }
        match failure {
            Some(Failure::End) => {
                state.ended = true;
                drop(state);
                resume_unwind(Box::new(ProcessEnded))
            }
            Some(failure) => Err(failure.error()),
            None => Ok(()),
        }
    }

    fn file(&self, path: &Path, kind: FileKind, real: Box<dyn DiskFile>) -> Box<dyn DiskFile> {
        Box::new(SimFile {
            disk: self.clone(),
            path: path.to_path_buf(),
            kind,
            real,
        })
    }
}

impl Disk for SimDisk {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        self.operation(Kind::CreateDirectory, path)?;
        RealDisk.create_directory(path)?;
        self.state().model.create_directory(self.relative(path));
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        self.operation(Kind::List, directory)?;
        RealDisk.list(directory)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.operation(Kind::Open, path)?;
        Ok(self.file(path, FileKind::ForReading, RealDisk.open(path)?))
    }

    fn open_directory(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.operation(Kind::OpenDirectory, path)?;
        Ok(self.file(path, FileKind::Directory, RealDisk.open_directory(path)?))
    }

    fn open_for_writing(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.operation(Kind::OpenForWriting, path)?;
        let real = RealDisk.open_for_writing(path)?;
        let node = self.state().model.node(self.relative(path));
        Ok(self.file(path, FileKind::Node(node), real))
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.operation(Kind::Create, path)?;
        let real = RealDisk.create(path)?;
        let node = self.state().model.create(self.relative(path));
        Ok(self.file(path, FileKind::Node(node), real))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.operation(Kind::Rename, from)?;
        let (old, new) = (self.relative(from), self.relative(to));
        let mut state = self.state();
        state.model.notice(old)?;
        RealDisk.rename(from, to)?;
        state.model.rename(old, new);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.operation(Kind::Remove, path)?;
        let mut state = self.state();
        state.model.notice(self.relative(path))?;
        let removed = RealDisk.remove(path);
        removed.inspect_err(|_| self.0.trace.only_looked())?;
        state.model.remove(self.relative(path));
        Ok(())
    }

    fn facts(&self, path: &Path) -> io::Result<Option<Facts>> {
        self.operation(Kind::Facts, path)?;
        RealDisk.facts(path)
    }

    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        self.operation(Kind::FreeBytes, directory)?;
        let state = self.state();
        match state.capacity {
            Some(capacity) => Ok(capacity.saturating_sub(state.model.used())),
            None => RealDisk.free_bytes(directory),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Held>>> {
        self.operation(Kind::Lock, path)?;
        RealDisk.lock(path)
    }

    fn random(&self) -> io::Result<u32> {
        self.operation(Kind::Random, Path::new(""))?;
        Ok(self.state().dice.roll() as u32)
    }

    fn boot_id(&self) -> io::Result<String> {
        self.operation(Kind::BootId, Path::new(""))?;
        Ok(format!("simulated-boot-{}", self.state().boot))
    }

    fn synced_elsewhere(&self, path: &Path) {
        let synced = self.state().model.synced_elsewhere(self.relative(path));
        // Only a file that is not there cannot be read, and then nothing of it is durable.
        let _ = synced;
    }

    fn unsynced(&self, _path: &Path, _error: &io::Error) -> ! {
        self.state().ended = true;
        resume_unwind(Box::new(ProcessEnded))
    }
}

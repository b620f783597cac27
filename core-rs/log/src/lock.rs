//! One process in a directory at a time.

use std::path::{Path, PathBuf};

use crate::disk::{Disk, Held, SharedDisk};
use crate::error::LogError;
use crate::failpoint;
use crate::files::create_directories;
use crate::real::RealDisk;

const NAME: &str = "lock";

/// The right to use a directory; the kernel takes it back when the process ends, however it ends.
#[derive(Debug)]
pub struct DirectoryLock {
    disk: SharedDisk,
    directory: PathBuf,
    _held: Box<dyn Held>,
}

impl DirectoryLock {
    /// Creates the directory if need be and takes its lock. Raises `Locked` at once when another holds it.
    pub fn take(directory: &Path) -> Result<Self, LogError> {
        Self::take_on(RealDisk::shared(), directory)
    }

    /// The same on another disk, which everything that is opened with this lock will use.
    pub fn take_on(disk: SharedDisk, directory: &Path) -> Result<Self, LogError> {
        failpoint::arm_from_environment()?;
        create_directories(disk.as_ref(), directory)?;
        let path = directory.join(NAME);
        let held = disk.lock(&path);
        let held = held.map_err(|e| LogError::io("lock", &path, e))?;
        let _held = held.ok_or_else(|| LogError::Locked {
            directory: directory.to_path_buf(),
        })?;
        Ok(Self {
            disk,
            directory: directory.to_path_buf(),
            _held,
        })
    }

    /// The directory that is locked.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The disk that the directory is on.
    pub fn disk(&self) -> &dyn Disk {
        self.disk.as_ref()
    }

    /// The same, to hand on.
    pub fn shared_disk(&self) -> SharedDisk {
        SharedDisk::clone(&self.disk)
    }
}

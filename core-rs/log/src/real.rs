//! The disk that the operating system has.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use rustix::fs::{FlockOperation, flock, statvfs};
use rustix::io::Errno;
use rustix::rand::{GetRandomFlags, getrandom};

use crate::disk::{Disk, DiskFile, Facts, Held, SharedDisk};

const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// The operating system, nothing between.
#[derive(Clone, Copy, Debug, Default)]
pub struct RealDisk;

impl RealDisk {
    /// One to hand on.
    pub fn shared() -> SharedDisk {
        Arc::new(Self)
    }
}

#[derive(Debug)]
struct RealFile(File);

#[derive(Debug)]
struct Lock {
    /// The kernel takes the lock back when this is closed, however the process ends.
    _file: File,
}

impl Held for Lock {}

fn boxed(file: File) -> Box<dyn DiskFile> {
    Box::new(RealFile(file))
}

impl DiskFile for RealFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.0.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.0.sync_all()
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }
}

impl Disk for RealDisk {
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir(path)
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(directory)? {
            names.extend(entry?.file_name().into_string().ok());
        }
        Ok(names)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        File::open(path).map(boxed)
    }

    fn open_directory(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        File::open(path).map(boxed)
    }

    fn open_for_writing(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        OpenOptions::new().write(true).open(path).map(boxed)
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        File::create(path).map(boxed)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn facts(&self, path: &Path) -> io::Result<Option<Facts>> {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(e),
        };
        let born = metadata.created().ok();
        let born = born.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Ok(Some(Facts {
            device: metadata.dev(),
            inode: metadata.ino(),
            born_ns: born.map_or(0, |since| since.as_nanos()),
            bytes: metadata.len(),
        }))
    }

    fn free_bytes(&self, directory: &Path) -> io::Result<u64> {
        let stat = statvfs(directory)?;
        Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn lock(&self, path: &Path) -> io::Result<Option<Box<dyn Held>>> {
        let mut options = OpenOptions::new();
        let file = options
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Some(Box::new(Lock { _file: file }))),
            Err(Errno::WOULDBLOCK) => Ok(None),
            Err(e) => Err(e.into()),
        }
    }

    fn random(&self) -> io::Result<u32> {
        let mut bytes = [0; 4];
        // Fewer than 256 bytes are never cut short.
        getrandom(&mut bytes, GetRandomFlags::empty())?;
        Ok(u32::from_be_bytes(bytes))
    }

    fn boot_id(&self) -> io::Result<String> {
        Ok(fs::read_to_string(BOOT_ID)?.trim().to_owned())
    }

    fn unsynced(&self, path: &Path, error: &io::Error) -> ! {
        eprintln!(
            "p2petd: syncing {} failed ({error}); stopping, since what the disk holds is unknown",
            path.display()
        );
        std::process::abort()
    }
}

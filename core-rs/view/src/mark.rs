//! The small durable file that says whether the view beside it may be believed.

use std::fs::{self, Metadata};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::UNIX_EPOCH;

use p2pet_log::{LogError, replace_file};

const NAME: &str = "mark";
const TITLE: &str = "p2pet view 2";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where this process runs and which files it uses: under another boot unsynced pages may be gone, and a copy, which
/// has other files, may have been made while they were written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) boot: String,
    pub(crate) device: u64,
    pub(crate) directory: FileId,
    pub(crate) data: FileId,
}

/// A file that no copy is, even where the file system gives the number of a deleted one to the next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct FileId {
    pub(crate) inode: u64,
    /// Nanoseconds since 1970; 0 where the file system keeps no time of birth.
    pub(crate) born_ns: u128,
}

impl FileId {
    fn of(metadata: &Metadata) -> Self {
        let born = metadata.created().ok();
        let born = born.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        Self {
            inode: metadata.ino(),
            born_ns: born.map_or(0, |since| since.as_nanos()),
        }
    }
}

impl Place {
    /// This boot of this machine, the directory of a view, and its file of pages (no file is a file of its own).
    pub(crate) fn here(directory: &Path, data: &Path) -> Result<Self, LogError> {
        let boot =
            fs::read_to_string(BOOT_ID).map_err(|e| LogError::io("read", Path::new(BOOT_ID), e))?;
        let metadata =
            fs::metadata(directory).map_err(|e| LogError::io("look at", directory, e))?;
        let data = match fs::metadata(data) {
            Ok(metadata) => FileId::of(&metadata),
            Err(e) if e.kind() == ErrorKind::NotFound => FileId::default(),
            Err(e) => return Err(LogError::io("look at", data, e)),
        };
        Ok(Self {
            boot: boot.trim().to_owned(),
            device: metadata.dev(),
            directory: FileId::of(&metadata),
            data,
        })
    }
}

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) place: Place,
    /// The view was synced and not touched since.
    pub(crate) clean: bool,
    /// A sequence that the view had applied: the log may not end below it.
    pub(crate) sequence: u64,
}

impl Mark {
    /// The mark of a view that may change after a record of this sequence.
    pub(crate) fn open(place: &Place, sequence: u64) -> Self {
        Self {
            place: place.clone(),
            clean: false,
            sequence,
        }
    }

    /// The mark of the view in this directory; None when there is none, or one that cannot be read.
    pub(crate) fn read(directory: &Path) -> Result<Option<Self>, LogError> {
        let path = directory.join(NAME);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(Self::parse(&text)),
            Err(e) if matches!(e.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => Ok(None),
            Err(e) => Err(LogError::io("read", &path, e)),
        }
    }

    /// Durable when it returns.
    pub(crate) fn write(&self, directory: &Path) -> Result<(), LogError> {
        replace_file(&directory.join(NAME), self.format().as_bytes())
    }

    /// Whether the view's pages are those that were written: the same files, and synced or still in the cache of the
    /// same kernel.
    pub(crate) fn vouches_for_view(&self, here: &Place) -> bool {
        let place = &self.place;
        let files = (place.device, place.directory, place.data);
        files == (here.device, here.directory, here.data) && (self.clean || place.boot == here.boot)
    }

    fn format(&self) -> String {
        let state = if self.clean { "clean" } else { "open" };
        let Place {
            boot,
            device,
            directory,
            data,
        } = &self.place;
        let files = [directory, data].map(|file| format!("{} {}", file.inode, file.born_ns));
        let [directory, data] = files;
        let sequence = self.sequence;
        format!("{TITLE}\n{state}\n{boot}\n{device}\n{directory}\n{data}\n{sequence}\n")
    }

    fn parse(text: &str) -> Option<Self> {
        let mut lines = text.lines();
        if lines.next()? != TITLE {
            return None;
        }
        let clean = match lines.next()? {
            "clean" => true,
            "open" => false,
            _ => return None,
        };
        let boot = lines.next()?.to_owned();
        let device = lines.next()?.parse().ok()?;
        let mut file = || {
            let (inode, born_ns) = lines.next()?.split_once(' ')?;
            Some(FileId {
                inode: inode.parse().ok()?,
                born_ns: born_ns.parse().ok()?,
            })
        };
        let (directory, data) = (file()?, file()?);
        let sequence = lines.next()?.parse().ok()?;
        Some(Self {
            place: Place {
                boot,
                device,
                directory,
                data,
            },
            clean,
            sequence,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(clean: bool, boot: &str, device: u64) -> Mark {
        let file = |inode| FileId { inode, born_ns: 3 };
        let place = Place {
            boot: boot.to_owned(),
            device,
            directory: file(1),
            data: file(2),
        };
        Mark {
            place,
            clean,
            sequence: 7,
        }
    }

    #[test]
    fn a_mark_survives_a_round_trip() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Mark::read(dir.path()).unwrap(), None);
        for clean in [true, false] {
            mark(clean, "b", 5).write(dir.path()).unwrap();
            assert_eq!(Mark::read(dir.path()).unwrap(), Some(mark(clean, "b", 5)));
        }
    }

    #[test]
    fn an_unreadable_mark_is_none() {
        for text in [
            "",
            "p2pet view 1\nclean\nb\n1\n1\n",
            "p2pet view 2\nmaybe\nb\n1\n1 1\n1 1\n1\n",
            "p2pet view 2\nclean\nb\nx\n1 1\n1 1\n1\n",
            "p2pet view 2\nclean\nb\n1\n1 1\n1\n1\n",
            "p2pet view 2\nclean\nb\n1\n1 1\n1 x\n1\n",
        ] {
            assert_eq!(Mark::parse(text), None);
        }
    }

    #[test]
    fn only_a_clean_or_still_cached_view_is_believed() {
        let here = mark(true, "now", 5).place;
        assert!(mark(true, "now", 5).vouches_for_view(&here));
        assert!(mark(false, "now", 5).vouches_for_view(&here));
        assert!(mark(true, "before", 5).vouches_for_view(&here));
        assert!(!mark(false, "before", 5).vouches_for_view(&here));
        assert!(!mark(true, "now", 6).vouches_for_view(&here));
    }

    #[test]
    fn r07_a_view_in_other_files_is_not_believed() {
        let mark = mark(true, "now", 5);
        let other = FileId {
            inode: 9,
            born_ns: 3,
        };
        let younger = FileId {
            inode: 2,
            born_ns: 4,
        };
        for (directory, data) in [
            (other, mark.place.data),
            (mark.place.directory, other),
            (mark.place.directory, younger),
            (mark.place.directory, FileId::default()),
        ] {
            let here = Place {
                directory,
                data,
                ..mark.place.clone()
            };
            assert!(!mark.vouches_for_view(&here));
        }
    }
}

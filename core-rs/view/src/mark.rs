//! The small durable file that says whether the view beside it may be believed.

use std::io::ErrorKind;
use std::path::Path;

use p2pet_log::LogError;
use p2pet_log::disk::{Disk, Facts};
use p2pet_log::files::{read_file, replace_file};

const NAME: &str = "mark";
const TITLE: &str = "p2pet view 2";
const BYTES_MAX: usize = 1024;
const CHUNK_BYTES: usize = 1 << 20;

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
    fn of(facts: &Facts) -> Self {
        Self {
            inode: facts.inode,
            born_ns: facts.born_ns,
        }
    }
}

impl Place {
    /// This boot of this machine, the directory of a view, and its file of pages (no file is a file of its own).
    pub(crate) fn here(disk: &dyn Disk, directory: &Path, data: &Path) -> Result<Self, LogError> {
        let facts = |path: &Path| {
            let facts = disk.facts(path);
            let facts = facts.map_err(|e| LogError::io("look at", path, e))?;
            Ok::<_, LogError>(facts.unwrap_or_default())
        };
        let boot = disk.boot_id();
        let of_directory = facts(directory)?;
        Ok(Self {
            boot: boot.map_err(|e| LogError::io("name the boot of", directory, e))?,
            device: of_directory.device,
            directory: FileId::of(&of_directory),
            data: FileId::of(&facts(data)?),
        })
    }
}

/// What the file of pages held when it was closed: LMDB itself would not notice a bit that flipped meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pages {
    bytes: u64,
    /// CRC-32C of them.
    crc: u32,
}

impl Pages {
    /// Reads all of them.
    pub(crate) fn of(disk: &dyn Disk, data: &Path) -> Result<Self, LogError> {
        let failed = |e| LogError::io("read", data, e);
        let file = disk.open(data).map_err(failed)?;
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut pages = Self { bytes: 0, crc: 0 };
        loop {
            match file.read_at(&mut chunk, pages.bytes) {
                Ok(0) => return Ok(pages),
                Ok(n) => {
                    let read = chunk.get(..n).unwrap_or_default();
                    pages.crc = crc32c::crc32c_append(pages.crc, read);
                    pages.bytes += n as u64;
                }
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(failed(e)),
            }
        }
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
    /// The pages of a view that was closed; None where nobody has read them.
    pub(crate) pages: Option<Pages>,
}

impl Mark {
    /// The mark of a view that may change after a record of this sequence.
    pub(crate) fn open(place: &Place, sequence: u64) -> Self {
        Self {
            place: place.clone(),
            clean: false,
            sequence,
            pages: None,
        }
    }

    /// The mark of the view in this directory; None when there is none, or one that cannot be read.
    pub(crate) fn read(disk: &dyn Disk, directory: &Path) -> Result<Option<Self>, LogError> {
        let bytes = read_file(disk, &directory.join(NAME), BYTES_MAX)?;
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        Ok(text.and_then(|text| Self::parse(&text)))
    }

    /// Durable when it returns.
    pub(crate) fn write(&self, disk: &dyn Disk, directory: &Path) -> Result<(), LogError> {
        replace_file(disk, &directory.join(NAME), self.format().as_bytes())
    }

    /// Whether the view's pages are those that were written: the same files, and synced or still in the cache of the
    /// same kernel.
    pub(crate) fn vouches_for_view(&self, here: &Place) -> bool {
        let place = &self.place;
        let files = (place.device, place.directory, place.data);
        files == (here.device, here.directory, here.data) && (self.clean || place.boot == here.boot)
    }

    /// Whether the pages are those that were closed; a view that was not closed, or whose pages nobody read, may be so.
    /// Pages that cannot be read are not: a bad sector costs the view, and never the start.
    pub(crate) fn holds(&self, disk: &dyn Disk, data: &Path) -> bool {
        self.pages
            .is_none_or(|pages| Pages::of(disk, data).is_ok_and(|there| there == pages))
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
        let pages = self.pages.map_or_else(String::new, |pages| {
            format!("{} {}\n", pages.bytes, pages.crc)
        });
        format!("{TITLE}\n{state}\n{boot}\n{device}\n{directory}\n{data}\n{sequence}\n{pages}")
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
        let pages = match lines.next() {
            None => None,
            Some(line) => {
                let (bytes, crc) = line.split_once(' ')?;
                Some(Pages {
                    bytes: bytes.parse().ok()?,
                    crc: crc.parse().ok()?,
                })
            }
        };
        Some(Self {
            place: Place {
                boot,
                device,
                directory,
                data,
            },
            clean,
            sequence,
            pages,
        })
    }
}

#[cfg(test)]
mod tests {
    use p2pet_log::RealDisk;

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
            pages: clean.then_some(Pages { bytes: 9, crc: 8 }),
        }
    }

    #[test]
    fn a_mark_survives_a_round_trip() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(Mark::read(&RealDisk, dir.path()).unwrap(), None);
        for clean in [true, false] {
            mark(clean, "b", 5).write(&RealDisk, dir.path()).unwrap();
            assert_eq!(
                Mark::read(&RealDisk, dir.path()).unwrap(),
                Some(mark(clean, "b", 5))
            );
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
    fn r06_pages_that_cannot_be_read_are_not_those_that_were_closed() {
        let dir = tempfile::tempdir().unwrap();
        // Reading a directory fails as reading a bad sector does.
        assert!(!mark(true, "now", 5).holds(&RealDisk, dir.path()));
        assert!(mark(false, "now", 5).holds(&RealDisk, dir.path()));
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

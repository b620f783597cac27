//! The small durable file that says whether the view beside it may be believed.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use p2pet_log::{LogError, replace_file};

const NAME: &str = "mark";
const TITLE: &str = "p2pet view 1";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Where this process runs: another boot or device means that unsynced pages may be gone or somebody else's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) boot: String,
    pub(crate) device: u64,
}

impl Place {
    /// This boot of this machine, and the device that holds the directory.
    pub(crate) fn here(directory: &Path) -> Result<Self, LogError> {
        let boot =
            fs::read_to_string(BOOT_ID).map_err(|e| LogError::io("read", Path::new(BOOT_ID), e))?;
        let metadata =
            fs::metadata(directory).map_err(|e| LogError::io("look at", directory, e))?;
        Ok(Self {
            boot: boot.trim().to_owned(),
            device: metadata.dev(),
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

    /// Whether the view's pages are those that were written: synced, or still in the cache of the same kernel.
    pub(crate) fn vouches_for_view(&self, here: &Place) -> bool {
        self.place.device == here.device && (self.clean || self.place.boot == here.boot)
    }

    fn format(&self) -> String {
        let state = if self.clean { "clean" } else { "open" };
        let Place { boot, device } = &self.place;
        format!("{TITLE}\n{state}\n{boot}\n{device}\n{}\n", self.sequence)
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
        let sequence = lines.next()?.parse().ok()?;
        Some(Self {
            place: Place { boot, device },
            clean,
            sequence,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(clean: bool, boot: &str, device: u64) -> Mark {
        let place = Place {
            boot: boot.to_owned(),
            device,
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
            "p2pet view 2\nclean\nb\n1\n1\n",
            "p2pet view 1\nmaybe\nb\n1\n1\n",
            "p2pet view 1\nclean\nb\nx\n1\n",
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
}

//! What a loss of power leaves: the tree, and of each write any part.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::dice::Dice;

const SECTOR_BYTES: usize = 512;

/// A tree as a machine finds it that starts after it lost power.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    pub(crate) directories: BTreeSet<PathBuf>,
    pub(crate) files: BTreeMap<PathBuf, Vec<u8>>,
}

impl Image {
    /// Makes `root` hold this and nothing else. Files that stay keep their numbers.
    pub fn write_to(&self, root: &Path) -> io::Result<()> {
        let mut found = BTreeMap::new();
        walk(root, root, &mut found)?;
        for (path, is_directory) in found.iter().rev() {
            let kept = match is_directory {
                true => self.directories.contains(path),
                false => self.files.contains_key(path),
            };
            if !kept && *is_directory {
                fs::remove_dir_all(root.join(path))?;
            } else if !kept {
                fs::remove_file(root.join(path))?;
            }
        }
        for path in &self.directories {
            fs::create_dir_all(root.join(path))?;
        }
        for (path, bytes) in &self.files {
            fs::write(root.join(path), bytes)?;
        }
        Ok(())
    }
}

/// Every path under a directory, and whether it is one.
pub(crate) fn walk(
    root: &Path,
    directory: &Path,
    found: &mut BTreeMap<PathBuf, bool>,
) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let (path, is_directory) = (entry.path(), entry.file_type()?.is_dir());
        if let Ok(relative) = path.strip_prefix(root) {
            found.insert(relative.to_path_buf(), is_directory);
        }
        if is_directory {
            walk(root, &path, found)?;
        }
    }
    Ok(())
}

/// A write that no sync has made durable.
#[derive(Clone, Debug)]
pub(crate) struct Write {
    pub(crate) offset: usize,
    pub(crate) bytes: Vec<u8>,
    /// A sync failed: the kernel calls it written, and no later sync writes it.
    pub(crate) dropped: bool,
}

pub(crate) fn put(bytes: &mut Vec<u8>, write: &Write) {
    let end = write.offset + write.bytes.len();
    if bytes.len() < end {
        bytes.resize(end, 0);
    }
    if let Some(place) = bytes.get_mut(write.offset..end) {
        place.copy_from_slice(&write.bytes);
    }
}

/// How much of what was not synced an image holds: the extremes are tried as often as anything between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    All,
    None,
    Some,
}

impl Kept {
    pub(crate) fn any(dice: &mut Dice) -> Self {
        match dice.below(4) {
            0 => Self::All,
            1 => Self::None,
            _ => Self::Some,
        }
    }

    pub(crate) fn keeps(self, dice: &mut Dice) -> bool {
        match self {
            Self::All => true,
            Self::None => false,
            Self::Some => dice.once_in(2),
        }
    }
}

/// Some sectors of a write: those before one, those from one on, or any.
pub(crate) fn tear(bytes: &mut Vec<u8>, write: &Write, dice: &mut Dice) {
    let first = write.offset / SECTOR_BYTES;
    let last = (write.offset + write.bytes.len()).div_ceil(SECTOR_BYTES);
    let cut = first + dice.below((last - first) as u64 + 1) as usize;
    let shape = dice.below(3);
    for sector in first..last {
        let kept = match shape {
            0 => sector < cut,
            1 => sector >= cut,
            _ => dice.once_in(2),
        };
        let start = (sector * SECTOR_BYTES).max(write.offset) - write.offset;
        let end =
            ((sector + 1) * SECTOR_BYTES).min(write.offset + write.bytes.len()) - write.offset;
        let piece = write.bytes.get(start..end).filter(|_| kept);
        if let Some(piece) = piece {
            let offset = write.offset + start;
            let bytes_of_piece = piece.to_vec();
            put(
                bytes,
                &Write {
                    offset,
                    bytes: bytes_of_piece,
                    dropped: false,
                },
            );
        }
    }
}

/// Sectors old, new or of neither: who writes through a map has no order at all.
pub(crate) fn mix(bytes: &mut Vec<u8>, real: &[u8], dice: &mut Dice) {
    let kept = Kept::any(dice);
    if kept == Kept::None {
        return;
    }
    let longer = bytes.len().max(real.len());
    bytes.resize(longer, 0);
    for (old, new) in bytes
        .chunks_mut(SECTOR_BYTES)
        .zip(real.chunks(SECTOR_BYTES))
    {
        if old.get(..new.len()) == Some(new) {
            continue;
        }
        if kept == Kept::Some && dice.once_in(8) {
            old.iter_mut().for_each(|byte| *byte = dice.roll() as u8);
        } else if kept.keeps(dice) {
            old.iter_mut().zip(new).for_each(|(old, new)| *old = *new);
        }
    }
}

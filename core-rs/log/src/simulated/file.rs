//! An open file of a simulated disk.

use std::io;
use std::path::PathBuf;

use super::trace::Kind;
use super::{Failure, SimDisk};
use crate::disk::DiskFile;

#[derive(Clone, Copy, Debug)]
pub(super) enum FileKind {
    ForReading,
    Directory,
    Node(usize),
}

#[derive(Debug)]
pub(super) struct SimFile {
    pub(super) disk: SimDisk,
    pub(super) path: PathBuf,
    pub(super) kind: FileKind,
    pub(super) real: Box<dyn DiskFile>,
}

impl SimFile {
    /// The part of a write that there is room for, and whether that is all of it.
    fn room(&self, bytes: usize, offset: u64) -> io::Result<(usize, bool)> {
        let state = self.disk.state();
        let Some(capacity) = state.capacity else {
            return Ok((bytes, true));
        };
        let free = capacity.saturating_sub(state.model.used());
        let inside = self.real.len()?.saturating_sub(offset);
        let fit = usize::try_from(inside.saturating_add(free)).unwrap_or(usize::MAX);
        Ok((bytes.min(fit), bytes <= fit))
    }

    fn write(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.real.write_all_at(bytes, offset)?;
        if let FileKind::Node(node) = self.kind {
            self.disk.state().model.write(node, offset, bytes);
        }
        Ok(())
    }

    fn sync(&self, kind: Kind) -> io::Result<()> {
        let asked = self.disk.operation(kind, &self.path);
        let path = self.disk.relative(&self.path);
        let model = &mut self.disk.state().model;
        match (asked, self.kind) {
            (Err(error), FileKind::Node(node)) => {
                model.drop_writes(node);
                Err(error)
            }
            (Err(error), _) => Err(error),
            (Ok(()), FileKind::Node(node)) => model.sync(path, node),
            (Ok(()), FileKind::Directory) => model.sync_directory(path),
            (Ok(()), FileKind::ForReading) => Ok(()),
        }
    }
}

impl DiskFile for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.disk.operation(Kind::Read, &self.path)?;
        self.real.read_at(buffer, offset)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.disk.operation(Kind::Read, &self.path)?;
        self.real.read_exact_at(buffer, offset)
    }

    fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        if let Err(error) = self.disk.operation(Kind::Write, &self.path) {
            if !self.disk.state().ended {
                self.write(bytes.get(..bytes.len() / 2).unwrap_or_default(), offset)?;
            }
            return Err(error);
        }
        let (fit, whole) = self.room(bytes.len(), offset)?;
        self.write(bytes.get(..fit).unwrap_or_default(), offset)?;
        match whole {
            true => Ok(()),
            false => Err(Failure::NoSpace.error()),
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(Kind::SyncData)
    }

    fn sync_all(&self) -> io::Result<()> {
        match self.kind {
            FileKind::Directory => self.sync(Kind::SyncDirectory),
            FileKind::Node(_) | FileKind::ForReading => self.sync(Kind::SyncAll),
        }
    }

    fn len(&self) -> io::Result<u64> {
        self.disk.operation(Kind::Length, &self.path)?;
        self.real.len()
    }
}

//! What of a directory tree is durable, and what is not.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::dice::Dice;
use super::image::{Image, Kept, Write, mix, put, tear, walk};

/// What a name stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Entry {
    Directory,
    File(usize),
}

/// A change of names that no directory sync has made durable.
#[derive(Clone, Debug)]
enum Change {
    Set(PathBuf, Entry),
    Unset(PathBuf),
    Rename(PathBuf, PathBuf, Entry),
}

impl Change {
    fn directory(&self) -> Option<&Path> {
        match self {
            Self::Set(path, _) | Self::Unset(path) | Self::Rename(_, path, _) => path.parent(),
        }
    }
}

/// A file's bytes, whatever its names.
#[derive(Clone, Debug, Default)]
struct Node {
    durable: Vec<u8>,
    writes: Vec<Write>,
}

impl Node {
    fn expected(&self) -> Vec<u8> {
        let mut bytes = self.durable.clone();
        self.writes.iter().for_each(|write| put(&mut bytes, write));
        bytes
    }
}

/// The tree under a real directory. Paths are relative to it.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    root: PathBuf,
    nodes: Vec<Node>,
    names: BTreeMap<PathBuf, Entry>,
    durable_names: BTreeMap<PathBuf, Entry>,
    changes: Vec<Change>,
}

impl Model {
    /// What is there already is durable.
    pub(crate) fn new(root: &Path) -> io::Result<Self> {
        let mut model = Self {
            root: root.to_path_buf(),
            nodes: Vec::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            changes: Vec::new(),
        };
        model.adopt_all()?;
        let paths: Vec<_> = model.names.keys().cloned().collect();
        for path in paths {
            model.synced_elsewhere(&path)?;
        }
        model.durable_names = model.names.clone();
        model.changes.clear();
        Ok(model)
    }

    pub(crate) fn create_directory(&mut self, path: &Path) {
        self.set(path, Entry::Directory);
    }

    /// The number of an empty file in place of any other; one that is there is emptied, which is not durable either.
    pub(crate) fn create(&mut self, path: &Path) -> usize {
        self.nodes.push(Node::default());
        let node = self.nodes.len() - 1;
        self.set(path, Entry::File(node));
        node
    }

    /// The number of an existing file.
    pub(crate) fn node(&mut self, path: &Path) -> usize {
        match self.names.get(path) {
            Some(Entry::File(node)) => *node,
            // Somebody made it beside the seam: nothing of it is durable.
            _ => self.create(path),
        }
    }

    pub(crate) fn write(&mut self, node: usize, offset: u64, bytes: &[u8]) {
        if let (Some(node), Ok(offset)) = (self.nodes.get_mut(node), usize::try_from(offset)) {
            node.writes.push(Write {
                offset,
                bytes: bytes.to_vec(),
                dropped: false,
            });
        }
    }

    /// Whatever somebody wrote to this file beside the seam is a write that is not durable; called while it is there.
    pub(crate) fn notice(&mut self, path: &Path) -> io::Result<()> {
        if matches!(self.names.get(path), Some(Entry::Directory)) || !self.root.join(path).exists()
        {
            return Ok(());
        }
        let node = self.node(path);
        if let Some(bytes) = self.written_beside(path, node)? {
            self.write(node, 0, &bytes);
        }
        Ok(())
    }

    pub(crate) fn rename(&mut self, from: &Path, to: &Path) {
        let entry = Entry::File(self.node(from));
        self.names.remove(from);
        self.names.insert(to.to_path_buf(), entry);
        let (from, to) = (from.to_path_buf(), to.to_path_buf());
        self.changes.push(Change::Rename(from, to, entry));
    }

    pub(crate) fn remove(&mut self, path: &Path) {
        self.node(path);
        self.names.remove(path);
        self.changes.push(Change::Unset(path.to_path_buf()));
    }

    /// Everything that was written is durable, what an earlier sync dropped aside.
    pub(crate) fn sync(&mut self, path: &Path, node: usize) -> io::Result<()> {
        let beside = self.written_beside(path, node)?;
        let Some(node) = self.nodes.get_mut(node) else {
            return Ok(());
        };
        if let Some(real) = beside {
            node.durable = real;
            node.writes.clear();
            return Ok(());
        }
        let (dropped, kept) = node.writes.drain(..).partition(|write| write.dropped);
        node.writes = dropped;
        let kept: Vec<Write> = kept;
        kept.iter().for_each(|write| put(&mut node.durable, write));
        Ok(())
    }

    /// The sync failed: what was written shows in the file and is lost with the power, whatever is synced later.
    pub(crate) fn drop_writes(&mut self, node: usize) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.writes
                .iter_mut()
                .for_each(|write| write.dropped = true);
        }
    }

    pub(crate) fn sync_directory(&mut self, directory: &Path) -> io::Result<()> {
        self.adopt_all()?;
        let of_directory = |change: &Change| change.directory() == Some(directory);
        let (synced, left) = self.changes.drain(..).partition(of_directory);
        self.changes = left;
        let synced: Vec<Change> = synced;
        synced
            .iter()
            .for_each(|change| apply(&mut self.durable_names, change));
        Ok(())
    }

    pub(crate) fn synced_elsewhere(&mut self, path: &Path) -> io::Result<()> {
        if self.names.get(path) == Some(&Entry::Directory) {
            return Ok(());
        }
        let (node, bytes) = (self.node(path), fs::read(self.root.join(path))?);
        if let Some(node) = self.nodes.get_mut(node) {
            *node = Node {
                durable: bytes,
                writes: Vec::new(),
            };
        }
        Ok(())
    }

    /// Bytes of all files.
    pub(crate) fn used(&self) -> u64 {
        let sizes = self
            .names
            .keys()
            .filter_map(|path| fs::metadata(self.root.join(path)).ok());
        sizes
            .filter(|size| size.is_file())
            .map(|size| size.len())
            .sum()
    }

    /// A tree that a loss of power can leave: all that is durable, and any part of the rest.
    pub(crate) fn image(&mut self, dice: &mut Dice) -> io::Result<Image> {
        self.adopt_all()?;
        let mut names = self.durable_names.clone();
        let kept = Kept::any(dice);
        for change in &self.changes {
            if kept.keeps(dice) {
                apply(&mut names, change);
            }
        }
        let mut image = Image {
            directories: BTreeSet::new(),
            files: BTreeMap::new(),
        };
        // Parents come before what is in them, and whoever lost its parent is lost.
        for (path, entry) in names {
            let parent = path
                .parent()
                .filter(|parent| !parent.as_os_str().is_empty());
            if parent.is_some_and(|parent| !image.directories.contains(parent)) {
                continue;
            }
            match entry {
                Entry::Directory => {
                    image.directories.insert(path);
                }
                Entry::File(node) => {
                    let bytes = self.content(&path, node, dice)?;
                    image.files.insert(path, bytes);
                }
            }
        }
        Ok(image)
    }

    fn content(&self, path: &Path, node: usize, dice: &mut Dice) -> io::Result<Vec<u8>> {
        let beside = self.written_beside(path, node)?;
        let Some(node) = self.nodes.get(node) else {
            return Ok(Vec::new());
        };
        let mut bytes = node.durable.clone();
        if let Some(real) = beside {
            mix(&mut bytes, &real, dice);
            return Ok(bytes);
        }
        let kept = Kept::any(dice);
        let mut writes: Vec<&Write> = node.writes.iter().collect();
        if dice.once_in(2) {
            // Fisher and Yates.
            for last in (1..writes.len()).rev() {
                let other = dice.below(last as u64 + 1) as usize;
                writes.swap(last, other);
            }
        }
        for write in writes {
            if kept.keeps(dice) {
                put(&mut bytes, write);
            } else if kept == Kept::Some && dice.once_in(2) {
                tear(&mut bytes, write, dice);
            }
        }
        Ok(bytes)
    }

    /// The bytes of a file that somebody wrote to without the seam.
    fn written_beside(&self, path: &Path, node: usize) -> io::Result<Option<Vec<u8>>> {
        if self.names.get(path) != Some(&Entry::File(node)) {
            return Ok(None);
        }
        let real = fs::read(self.root.join(path))?;
        let expected = self.nodes.get(node).map(Node::expected);
        Ok((expected.as_ref() != Some(&real)).then_some(real))
    }

    /// Takes note of what was made and removed beside the seam.
    fn adopt_all(&mut self) -> io::Result<()> {
        let mut found = BTreeMap::new();
        walk(&self.root, &self.root, &mut found)?;
        for (path, is_directory) in &found {
            if !self.names.contains_key(path) && *is_directory {
                self.create_directory(path);
            } else if !self.names.contains_key(path) {
                self.create(path);
            }
        }
        let gone = self.names.keys().filter(|path| !found.contains_key(*path));
        for path in gone.cloned().collect::<Vec<_>>() {
            self.names.remove(&path);
            self.changes.push(Change::Unset(path));
        }
        Ok(())
    }

    fn set(&mut self, path: &Path, entry: Entry) {
        self.names.insert(path.to_path_buf(), entry);
        self.changes.push(Change::Set(path.to_path_buf(), entry));
    }
}

fn apply(names: &mut BTreeMap<PathBuf, Entry>, change: &Change) {
    match change {
        Change::Set(path, entry) => {
            names.insert(path.clone(), *entry);
        }
        Change::Unset(path) => {
            names.remove(path);
        }
        Change::Rename(from, to, entry) => {
            names.remove(from);
            names.insert(to.clone(), *entry);
        }
    }
}

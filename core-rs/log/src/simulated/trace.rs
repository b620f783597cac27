//! What happened on a simulated disk, failpoints among it.

use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use crate::failpoint::Failpoint;

/// What the log asked for.
#[allow(missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    CreateDirectory,
    List,
    Open,
    OpenDirectory,
    OpenForWriting,
    Create,
    Read,
    Length,
    Write,
    SyncData,
    SyncAll,
    SyncDirectory,
    Rename,
    Remove,
    Facts,
    FreeBytes,
    Lock,
    Random,
    BootId,
}

impl Kind {
    /// Whether it makes something durable.
    pub fn is_sync(self) -> bool {
        matches!(self, Self::SyncData | Self::SyncAll | Self::SyncDirectory)
    }

    /// Whether the disk is, or may be, another one after it: a crash before and after it differ.
    pub fn is_change(self) -> bool {
        use Kind::{Create, CreateDirectory, Remove, Rename, Write};
        matches!(self, CreateDirectory | Create | Write | Rename | Remove) || self.is_sync()
    }
}

/// One line of the trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// The disk was asked for something, whether it did it or not.
    Operation {
        /// For what.
        kind: Kind,
        /// Of which file or directory.
        path: PathBuf,
    },
    /// A failpoint was passed on the thread of the last operation.
    Pass(Failpoint),
}

/// The events of one disk, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace(Arc<Mutex<Vec<Event>>>);

thread_local! {
    /// Where this thread's failpoints are recorded: the disk that it used last.
    static RECORDER: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

impl Trace {
    /// Adds an operation of this thread, whose failpoints from now on are recorded here too.
    pub(crate) fn operation(&self, kind: Kind, path: PathBuf) {
        RECORDER.with(|recorder| *recorder.borrow_mut() = Some(self.clone()));
        self.push(Event::Operation { kind, path });
    }

    /// The last operation found nothing to change, and only looked.
    pub(crate) fn only_looked(&self) {
        let mut events = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(Event::Operation { kind, .. }) = events.last_mut() {
            *kind = Kind::Facts;
        }
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn push(&self, event: Event) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(event);
    }
}

/// Called at every pass of a failpoint.
pub(crate) fn record_pass(point: Failpoint) {
    RECORDER.with(|recorder| {
        if let Some(trace) = recorder.borrow().as_ref() {
            trace.push(Event::Pass(point));
        }
    });
}

//! How far a long opening is, told to whoever waits for it.

use std::cell::Cell;
use std::time::{Duration, Instant};

/// No more than about four times a second.
const PAUSE: Duration = Duration::from_millis(250);

/// What takes so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Bytes of the log are checked.
    CheckingLog,
    /// Bytes of a snapshot are copied into the view's place.
    RestoringSnapshot,
    /// Records are applied to the view.
    RebuildingView,
    /// Records of a notary are checked.
    CheckingDecisions,
    /// Rows of two views are compared.
    ComparingRows,
}

impl Phase {
    /// The name outside.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CheckingLog => "checking_log",
            Self::RestoringSnapshot => "restoring_snapshot",
            Self::RebuildingView => "rebuilding_view",
            Self::CheckingDecisions => "checking_decisions",
            Self::ComparingRows => "comparing_rows",
        }
    }
}

/// Takes phase, what is done, and what there is to do.
pub type Tell<'t> = dyn Fn(Phase, u64, u64) + 't;

/// Passes on what is worth telling; the first report of a phase waits for its pause too, so that what is quick is
/// never told.
pub struct Progress<'t> {
    tell: Option<&'t Tell<'t>>,
    last: Cell<Instant>,
}

impl<'t> Progress<'t> {
    /// Tells nobody.
    pub fn silent() -> Self {
        Self {
            tell: None,
            last: Cell::new(Instant::now()),
        }
    }

    /// Tells `tell`, from the thread that works.
    pub fn to(tell: &'t Tell<'t>) -> Self {
        Self {
            tell: Some(tell),
            ..Self::silent()
        }
    }

    /// `done` of `total` is done.
    pub fn at(&self, phase: Phase, done: u64, total: u64) {
        if let Some(tell) = self.tell
            && self.last.get().elapsed() >= PAUSE
        {
            self.last.set(Instant::now());
            tell(phase, done, total);
        }
    }
}

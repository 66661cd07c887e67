//! The bugs that the judges are shown, so that they are known to notice them. All are planted behind the seams.

/// What is wrong with a world.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plant {
    Nothing,
    /// Parts are confirmed before the store has them, so that they are recorded too early.
    ConfirmsEarly,
    /// Syncs are answered one operation too early, the upload id's among them.
    SyncsLate,
    /// Syncs are answered and never done.
    SyncLies,
    /// No checksum is compared: answers lack it, and parts are harmed on their way.
    NoChecksums,
    /// The log is believed, whatever the store has.
    TrustsTheLog,
    /// A log is taken for one of the file as it is, though the file's identity changed.
    TrustsTheFile,
    /// What the log knows is not used.
    ForgetsTheLog,
    /// The store says that no object is there.
    HidesTheObject,
}

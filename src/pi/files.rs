//! Work on files without a data connection: what is changed, and what is only looked at.

use super::ServerPi;
use crate::log::Level;
use crate::proto::directive::Directive;
use crate::proto::listing::{timestamp, Entry};
use crate::proto::outcome::{FileError, FileErrorKind};
use crate::proto::path::VirtualPath;
use crate::proto::session::{FileAnswer, FileTask};
use crate::transfer::describe;

impl ServerPi<'_> {
    /// What only looks is no line of the log, but for trouble.
    fn looked(
        &self,
        path: &VirtualPath,
        outcome: Result<FileAnswer, FileError>,
    ) -> Result<FileAnswer, FileError> {
        let directive = self.file_directive(path, outcome);
        let is_told = |error: &&FileError| error.is_trouble() || directive.is_some();
        if let Some(error) = outcome.as_ref().err().filter(is_told) {
            self.log
                .event(Level::Notice, "look")
                .bytes("path", path.as_bytes())
                .field("result", "file")
                .bytes("error", describe(*error).as_bytes())
                .decided_by(directive)
                .send();
        }
        outcome
    }

    fn file_directive(
        &self,
        path: &VirtualPath,
        outcome: Result<FileAnswer, FileError>,
    ) -> Option<Directive> {
        self.root.as_ref()?.directive(outcome.err()?, path)
    }

    /// Performs work on files that takes no data connection.
    #[inline(never)]
    pub(super) fn on_files(&self, task: &FileTask) -> Result<FileAnswer, FileError> {
        let Some(root) = &self.root else {
            return Err(FileError::new(FileErrorKind::Failed));
        };
        #[cfg(feature = "fault-injection")]
        if let FileTask::MakeDirectory(path) = task {
            crate::fault::strike("change", path.name().unwrap_or_default());
        }
        let (verb, path, outcome) = match task {
            FileTask::ChangeDirectory(path) => {
                return self.looked(path, done(root.enter(path)));
            }
            FileTask::Examine { path, .. } => return self.looked(path, entry(root.examine(path))),
            FileTask::SetModified { path, seconds, .. } => {
                ("set-time", path, entry(root.set_modified(path, *seconds)))
            }
            FileTask::MakeDirectory(path) => {
                ("make-directory", path, done(root.make_directory(path)))
            }
            FileTask::RemoveDirectory(path) => {
                ("remove-directory", path, done(root.remove_directory(path)))
            }
            FileTask::Delete(path) => ("delete", path, done(root.delete(path))),
            FileTask::Rename { from, to, replace } => {
                ("rename", from, done(root.rename(from, to, *replace)))
            }
        };
        let level = if outcome.is_ok() {
            Level::Info
        } else {
            Level::Notice
        };
        let mut event = self.log.event(level, verb).bytes("path", path.as_bytes());
        if let FileTask::Rename { to, .. } = task {
            event = event.bytes("to", to.as_bytes());
        }
        if let FileTask::SetModified { seconds, .. } = task {
            event = event.field("time", timestamp(*seconds));
        }
        match outcome {
            Ok(_) => event.field("result", "complete"),
            Err(error) => event
                .field("result", "file")
                .bytes("error", describe(error).as_bytes()),
        }
        .decided_by(self.file_directive(path, outcome))
        .send();
        outcome
    }
}

fn done(outcome: Result<(), FileError>) -> Result<FileAnswer, FileError> {
    outcome.map(|()| FileAnswer::Done)
}

fn entry(outcome: Result<Entry, FileError>) -> Result<FileAnswer, FileError> {
    outcome.map(FileAnswer::Entry)
}

//! What work there may be at all.

use ftpsd::proto::parameters::{Right, Rights};
use ftpsd::proto::path::VirtualPath;
use ftpsd::proto::session::{
    DataProtection, Examine, FileTask, Passive, StoreRequest, TransferTask, Verdict, Work,
};

use super::super::command::{argument, verb};
use super::super::path::check_path;
use super::{Place, Run};

impl Run {
    /// What work there may be at all.
    pub(super) fn begin(&mut self, work: Work) {
        match &work {
            Work::Secure(secure) => {
                assert!(!self.secured && self.granted.is_none());
                assert_eq!(self.answer(&secure.invitation()), 234);
            }
            Work::Identify(identify) => {
                assert!(self.certified, "a login by a certificate that nobody has");
                assert_eq!(identify.name(), argument(&self.cause.line));
                self.granted = None;
                self.endpoint = false;
            }
            Work::Authenticate(authenticate) => {
                assert!(self.secured || self.plain, "a password in clear text");
                assert_eq!(authenticate.in_clear_text(), !self.secured);
                assert_eq!(authenticate.password().expose(), argument(&self.cause.line));
                assert!(format!("{work:?}").contains("password: Password(..)"));
            }
            Work::Listen(listen) => {
                assert!(self.granted.is_some());
                assert!(listen.how() == Passive::Epsv || !self.policy.ipv6);
            }
            Work::File(file) => self.check_file(file.task()),
            Work::Transfer(transfer) => {
                assert!(self.private || self.plain, "data in clear text");
                let private = transfer.protection() == DataProtection::Private;
                assert_eq!(private, self.private);
                assert_eq!(transfer.connect_to(), self.connect_to);
                assert!(std::mem::take(&mut self.endpoint), "data to nowhere");
                self.check_transfer(transfer.task());
            }
            Work::Unique(_) => {
                assert!(self.private || self.plain, "data in clear text");
                assert!(self.endpoint, "data to nowhere");
                assert!(self.granted.is_some());
                assert_eq!(self.cause.restart.unwrap_or(0), 0);
            }
            Work::Hash(hash) => {
                check_path(hash.path());
                assert!(self.rights(hash.path()).allow(Right::Read));
            }
            Work::Status(status) => {
                check_path(status.path());
                assert!(self.rights(status.path()).allow(Right::List));
            }
        }
        self.place = Place::Working(work);
    }

    pub(super) fn rights(&self, path: &VirtualPath) -> Rights {
        self.granted.expect("a login first").at(path).0
    }

    fn check_file(&self, task: &FileTask) {
        let granted = self.granted.expect("a login first");
        let may = |right, path| self.rights(path).allow(right) && !granted.stays(path);
        match task {
            FileTask::ChangeDirectory(path) => check_path(path),
            FileTask::MakeDirectory(path) => {
                check_path(path);
                assert!(may(Right::Mkdir, path));
            }
            FileTask::RemoveDirectory(path) | FileTask::Delete(path) => {
                check_path(path);
                assert!(may(Right::Delete, path));
            }
            FileTask::Rename { from, to, replace } => {
                check_path(to);
                assert_eq!(self.cause.rename_from.as_ref(), Some(from));
                assert!(may(Right::Rename, from) && may(Right::Rename, to));
                assert_eq!(granted.at(from).1, granted.at(to).1, "from place to place");
                assert_eq!(*replace, self.rights(to).allow(Right::Overwrite));
            }
            FileTask::SetModified { path, .. } => {
                check_path(path);
                assert!(may(Right::Overwrite, path));
            }
            FileTask::Examine { path, purpose } => {
                check_path(path);
                let rights = self.rights(path);
                let listed = rights.allow(Right::List);
                assert!(match purpose {
                    Examine::Size | Examine::Modified => listed || rights.allow(Right::Read),
                    Examine::Facts => listed,
                    Examine::RenameFrom => may(Right::Rename, path),
                });
            }
        }
    }

    fn check_transfer(&self, task: &TransferTask) {
        let granted = self.granted.expect("a login first");
        let restart = self.cause.restart.unwrap_or(0);
        match task {
            TransferTask::Retrieve {
                path,
                offset,
                ascii,
            } => {
                check_path(path);
                assert!(self.rights(path).allow(Right::Read));
                assert_eq!(*offset, restart);
                assert!(!*ascii || *offset == 0 && self.policy.ascii);
            }
            TransferTask::Store {
                path,
                request,
                ascii,
                allocated,
            } => {
                let StoreRequest {
                    offset,
                    told,
                    new,
                    overwrite,
                    append,
                } = request;
                check_path(path);
                assert!(!granted.stays(path) || path.is_root());
                let rights = self.rights(path);
                let other = if offset.is_none() {
                    Right::Append
                } else {
                    Right::Overwrite
                };
                assert!(rights.allow(Right::Write) || rights.allow(other));
                assert_eq!(*new, rights.allow(Right::Write));
                assert_eq!(*overwrite, rights.allow(Right::Overwrite));
                assert_eq!(*append, rights.allow(Right::Append));
                assert_eq!(*allocated, self.cause.allocated);
                assert!(offset.is_none_or(|offset| offset == restart));
                assert!(told.is_none() || *offset != Some(0));
                assert_eq!(offset.is_none(), verb(&self.cause.line) == b"APPE");
                assert!(!*ascii || offset.unwrap_or(0) == 0 && self.policy.ascii);
            }
            TransferTask::List {
                path,
                permissions: shown,
                pattern,
                ..
            } => {
                check_path(path);
                assert!(pattern.is_none() || verb(&self.cause.line) != b"MLSD");
                assert!(pattern.is_none() || !path.is_root());
                assert!(self.rights(path).allow(Right::List));
                assert_eq!(Verdict::Accepted(shown.clone()), granted.verdict());
            }
        }
    }
}

//! What may come of work.

use ftpsd::proto::listing::{Entry, Kind};
use ftpsd::proto::outcome::{Decided, FileError, FileErrorKind, TransferError, Unbound};
use ftpsd::proto::parameters::Rights;
use ftpsd::proto::path::VirtualPath;
use ftpsd::proto::permissions::Permissions;
use ftpsd::proto::session::{FileAnswer, Verdict};

/// Whether a verdict counts among the failures that close the connection.
pub(super) fn counts(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Refused | Verdict::Waiting)
}

/// The rights of a user in the root, and those in the shares `a` and `b` where there are these.
#[derive(Clone, Copy)]
pub(super) struct Granted {
    own: Rights,
    shares: Option<(Rights, Rights)>,
}

/// What came of a login.
pub(super) type Decision = Result<Granted, fn() -> Verdict>;

const fn granted(own: Rights) -> Decision {
    Ok(Granted { own, shares: None })
}

const fn with_shares(own: Rights, a: Rights, b: Rights) -> Decision {
    let shares = Some((a, b));
    Ok(Granted { own, shares })
}

pub(super) const VERDICTS: [(u8, Decision); 12] = [
    (b'f', granted(Rights::FULL)),
    (b'r', granted(Rights::READ_ONLY)),
    (b'u', granted(Rights::UPLOAD_ONLY)),
    (
        b'1',
        with_shares(Rights::FULL, Rights::READ_ONLY, Rights::FULL),
    ),
    (
        b'2',
        with_shares(Rights::READ_ONLY, Rights::FULL, Rights::UPLOAD_ONLY),
    ),
    (b'3', with_shares(Rights::FULL, Rights::FULL, Rights::FULL)),
    (b'x', Err(|| Verdict::Refused)),
    (b'd', Err(|| Verdict::NoRoot)),
    (b'b', Err(|| Verdict::Busy)),
    (b'e', Err(|| Verdict::Refused)),
    (b'w', Err(|| Verdict::Waiting)),
    (b'm', Err(|| Verdict::TooMany)),
];

impl Granted {
    pub(super) fn verdict(self) -> Verdict {
        let permissions = Permissions::from(self.own);
        Verdict::Accepted(match self.shares {
            None => permissions,
            Some((a, b)) => permissions.with_share(b"a", a).with_share(b"b", b),
        })
    }

    /// The rights at `path`, and the share that it is in.
    pub(super) fn at(&self, path: &VirtualPath) -> (Rights, u8) {
        match (self.shares, path.as_bytes()) {
            (Some((a, _)), b"/a" | [b'/', b'a', b'/', ..]) => (a, b'a'),
            (Some((_, b)), b"/b" | [b'/', b'b', b'/', ..]) => (b, b'b'),
            (Some(_) | None, _) => (self.own, b'/'),
        }
    }

    /// Whether it may be removed, renamed or replaced by anybody.
    pub(super) fn stays(&self, path: &VirtualPath) -> bool {
        path.is_root() || self.shares.is_some() && matches!(path.as_bytes(), b"/a" | b"/b")
    }
}

pub(super) const FILE_ERRORS: [(u8, FileErrorKind); 16] = [
    (b'1', FileErrorKind::NotFound),
    (b'2', FileErrorKind::Denied),
    (b'3', FileErrorKind::NotAFile),
    (b'4', FileErrorKind::NotADirectory),
    (b'5', FileErrorKind::Exists),
    (b'6', FileErrorKind::NotEmpty),
    (b'7', FileErrorKind::Links),
    (b'8', FileErrorKind::ReadOnly),
    (b'9', FileErrorKind::NameInvalid),
    (b'A', FileErrorKind::BeyondEnd),
    (b'B', FileErrorKind::NoSpace),
    (b'C', FileErrorKind::TooLarge),
    (b'D', FileErrorKind::Busy),
    (b'E', FileErrorKind::Failed),
    (b'F', FileErrorKind::MayNotReplace),
    (b'G', FileErrorKind::MayNotMake),
];

const UNBOUND: Unbound = Unbound {
    decided: Decided::TopLevel,
    tickets_spent: false,
};

const TRANSFER_ERRORS: [(u8, TransferError); 12] = [
    (b'u', TransferError::Unreachable),
    (b'n', TransferError::NoConnection(50_000, 50_999)),
    (b'h', TransferError::Handshake),
    (b's', TransferError::NotThisSession(UNBOUND)),
    (b'w', TransferError::Network),
    (b't', TransferError::Truncated),
    (b'i', TransferError::Stalled),
    (b'l', TransferError::TooSlow),
    (b'o', TransferError::OutOfTime),
    (b'a', TransferError::Aborted),
    (b'c', TransferError::ControlLost),
    (b'q', TransferError::Stopping),
];

/// `+` and `f`, `d` or `s` for an entry of that kind, `-` and a digit for an error.
pub(super) fn file_outcome(line: &[u8]) -> Result<FileAnswer, FileError> {
    match line {
        [b'-', rest @ ..] => Err(FileError::new(chosen(&FILE_ERRORS, rest))),
        [b'+', rest @ ..] => Ok(FileAnswer::Entry(Entry {
            kind: match rest.first() {
                Some(b'd') => Kind::Directory,
                Some(b's') => Kind::Special,
                Some(_) | None => Kind::File,
            },
            size: line
                .iter()
                .fold(0, |size, &byte| u64::rotate_left(size, 7) ^ u64::from(byte)),
            modified: line
                .iter()
                .fold(0, |time, &byte| i64::rotate_left(time, 9) ^ i64::from(byte)),
            mode: 0o644,
            links: 1,
            unfinished: line.len() > 9,
        })),
        _ => Ok(FileAnswer::Done),
    }
}

/// `+` is nothing wrong, `-` and a file error's digit is that, anything else from the list.
pub(super) fn transfer_outcome(line: &[u8]) -> Result<(), TransferError> {
    match line {
        [] | [b'+', ..] => Ok(()),
        [b'-', rest @ ..] => Err(TransferError::Local(FileError::new(chosen(
            &FILE_ERRORS,
            rest,
        )))),
        _ => Err(chosen(&TRANSFER_ERRORS, line)),
    }
}

pub(super) fn chosen<T: Copy>(list: &[(u8, T)], line: &[u8]) -> T {
    let byte = line.first().copied().unwrap_or(0);
    let named = list.iter().find(|(name, _)| *name == byte);
    named.unwrap_or(&list[usize::from(byte) % list.len()]).1
}

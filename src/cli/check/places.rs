//! The directories that users see, looked at as the account: each once, whoever they are of.

use std::path::Path;

use rustix::io::Errno;

use super::Report;
use crate::config::storage::Storage;
use crate::config::Config;
use crate::privilege::Account;
use crate::proto::parameters::{Right, Rights};
use crate::root::{self, Look};

/// So many good ones are named.
const MOST_GOOD: u32 = 20;

/// A root or share, with all whose it is.
struct Place<'a> {
    is_root: bool,
    path: &'a Path,
    require_mount: bool,
    lists: bool,
    writes: bool,
    durable: bool,
    first: &'a str,
    others: u32,
}

/// Everything that users would find missing.
pub(super) fn look(config: &Config, account: Option<&Account>, report: &mut Report) {
    let mut places: Vec<Place<'_>> = Vec::new();
    for user in &config.user {
        let durable = Storage::of(config, user).durable;
        let root = (true, &user.root, user.access.0, user.require_mount);
        let shares = user.share.values();
        let shares = shares.map(|it| (false, &it.path, it.access.0, it.require_mount));
        for (is_root, path, rights, require_mount) in std::iter::once(root).chain(shares) {
            let place = Place {
                is_root,
                path: path.get_ref(),
                require_mount,
                lists: rights.allow(Right::List),
                writes: writes(rights),
                durable,
                first: user.name.get_ref(),
                others: 0,
            };
            match places.iter_mut().find(|other| other.is_like(&place)) {
                Some(other) => other.others = other.others.saturating_add(1),
                None => places.push(place),
            }
        }
    }
    let account = match account {
        Some(account) => format!("the account {}", account.name),
        None => "this account".to_owned(),
    };
    let mut good = 0_u32;
    for place in &places {
        let name = place.name();
        let look = match root::look(place.path) {
            Ok(look) => look,
            Err(Errno::NOENT) if place.require_mount => {
                report.fact(format_args!("{name}: not there, so not mounted"));
                continue;
            }
            Err(errno) => {
                report.warn(format_args!(
                    "{name}: {account} cannot open it: {errno}: make it, or name another"
                ));
                continue;
            }
        };
        if place.require_mount && !look.is_mounted {
            report.fact(format_args!(
                "{name}: nothing is mounted there, so nobody gets in until it is"
            ));
        } else if !place.complain(&name, &account, &look, config.keep_free.0, report) {
            good = good.saturating_add(1);
            if good <= MOST_GOOD {
                place.praise(&name, &look, report);
            }
        }
    }
    if good > MOST_GOOD {
        report.fact(format_args!("roots and shares: {good} good ones in all"));
    }
}

fn writes(rights: Rights) -> bool {
    Right::ALL.iter().any(|(right, _)| match right {
        Right::Read | Right::List => false,
        Right::Write
        | Right::Overwrite
        | Right::Append
        | Right::Delete
        | Right::Rename
        | Right::Mkdir => rights.allow(*right),
    })
}

impl Place<'_> {
    fn is_like(&self, other: &Place<'_>) -> bool {
        let wants = |it: &Place<'_>| {
            (
                it.is_root,
                it.require_mount,
                it.lists,
                it.writes,
                it.durable,
            )
        };
        self.path == other.path && wants(self) == wants(other)
    }

    fn name(&self) -> String {
        let kind = if self.is_root { "root" } else { "share" };
        let (path, first) = (self.path.display(), self.first);
        match self.others {
            0 => format!("{kind} {path} of {first}"),
            others => format!("{kind} {path} of {first} and {others} more"),
        }
    }

    /// Says what its users cannot do there; whether there was anything.
    fn complain(
        &self,
        name: &str,
        account: &str,
        look: &Look,
        keep_free: u64,
        report: &mut Report,
    ) -> bool {
        let before = report.warnings;
        let mut cannot = |what: &str, errno: Errno| {
            let advice = match errno {
                Errno::ROFS => "mount it for writing, or take the right away",
                _ => "give it to the account by chown(1), or take the right away",
            };
            report.warn(format_args!(
                "{name}: {account} cannot {what}: {errno}: {advice}"
            ));
        };
        if let Err(errno) = look.enter {
            cannot("enter it", errno);
        } else if let (true, Err(errno)) = (self.lists, look.list) {
            cannot("list it", errno);
        }
        if let (true, Err(errno)) = (self.writes, look.write) {
            cannot("write there", errno);
        }
        if let (true, Some(free)) = (self.writes, look.free.filter(|free| *free < keep_free)) {
            report.warn(format_args!(
                "{name}: {free} bytes are free, and keep-free is {keep_free}: uploads are refused: \
                 make room"
            ));
        }
        report.warnings > before
    }

    fn praise(&self, name: &str, look: &Look, report: &mut Report) {
        let free = look.free.unwrap_or(0) >> 20;
        let note = if look.is_memory && self.writes && self.durable {
            ", in memory: gone when the device is switched off, durable or not"
        } else if look.is_fat && self.writes {
            ", FAT: without a journal, owners and modes"
        } else {
            ""
        };
        let rights = if self.writes { "writable" } else { "readable" };
        report.fact(format_args!("{name}: {rights}, {free} MiB free{note}"));
    }
}

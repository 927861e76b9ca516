//! The directories that users see, looked at as the account: each once, whoever they are of.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::io::Errno;

use super::Report;
use crate::config::storage::Storage;
use crate::config::value::Access;
use crate::config::Config;
use crate::privilege::Account;
use crate::proto::parameters::Right;
use crate::root::{self, Root};

/// As many links as the kernel follows.
const MOST_LINKS: u32 = 40;

/// What users want of a directory.
#[derive(PartialEq, Eq)]
struct Wish<'a> {
    is_root: bool,
    path: &'a OsStr,
    require_mount: bool,
    lists: bool,
    writes: bool,
    storage: Storage,
}

/// Everything that users would find missing, each directory once, whoever's it is.
pub(super) fn look(config: &Config, account: Option<&Account>, report: &mut Report) {
    let mut wishes: Vec<(Wish<'_>, &str, u32)> = Vec::new();
    for user in &config.user {
        let mut add = |is_root, path, access: Access, require_mount| {
            let wish = Wish {
                is_root,
                path: Path::as_os_str(path),
                require_mount,
                lists: access.0.allow(Right::List),
                writes: Right::ALL
                    .iter()
                    .any(|(right, _)| changes(*right) && access.0.allow(*right)),
                storage: Storage::of(config, user),
            };
            for (other, _, others) in &mut wishes {
                if *other == wish {
                    *others = others.saturating_add(1);
                    return;
                }
            }
            wishes.push((wish, user.name.get_ref(), 0));
        };
        add(true, user.root.get_ref(), user.access, user.require_mount);
        for share in user.share.values() {
            add(
                false,
                share.path.get_ref(),
                share.access,
                share.require_mount,
            );
        }
    }
    let account = match account {
        Some(account) => ("account ", &*account.name),
        None => ("this account", ""),
    };
    let mut foreign = root::foreign_anywhere();
    foreign.remove(&b"/"[..]);
    for (wish, first, others) in &wishes {
        let kind = if wish.is_root { "root" } else { "share" };
        let mut name = format!("{kind} {} of {first}", wish.path.display());
        if *others > 0 {
            name = format!("{name} and {others} more");
        }
        // A login may wait for a network; an init script that checks must not.
        if leads_to(wish.path, &foreign) {
            report.fact(&name, &"of a network or the like, so it is not looked at");
        } else {
            wish.look(&name, account, report);
        }
    }
}

/// Whether the way to a directory, whatever links are on it, comes by one of those places.
fn leads_to(path: &OsStr, places: &BTreeSet<Vec<u8>>) -> bool {
    let (mut at, mut links) = (PathBuf::new(), 0);
    let parts = |path: &Path| -> Vec<OsString> { path.iter().rev().map(OsStr::to_owned).collect() };
    let mut rest = parts(Path::new(path));
    while let Some(part) = rest.pop() {
        if part == ".." {
            at.pop();
            continue;
        }
        // An absolute one takes the place of all.
        at.push(part);
        if places.contains(at.as_os_str().as_bytes()) {
            return true;
        }
        match fs::read_link(&at) {
            Ok(link) if links < MOST_LINKS => {
                links += 1;
                at.pop();
                rest.extend(parts(&link));
            }
            Ok(_) | Err(_) => {}
        }
    }
    false
}

fn changes(right: Right) -> bool {
    match right {
        Right::Read | Right::List => false,
        Right::Write
        | Right::Overwrite
        | Right::Append
        | Right::Delete
        | Right::Rename
        | Right::Mkdir => true,
    }
}

impl Wish<'_> {
    fn look(&self, name: &str, (kind, account): (&str, &str), report: &mut Report) {
        // As a session opens it, but for the user's name.
        let root = match Root::open(Path::new(self.path), "", self.storage) {
            Ok(root) => root,
            Err(error) if self.require_mount && error.kind() == ErrorKind::NotFound => {
                return report.fact(&name, &"not there, so not mounted");
            }
            Err(error) => {
                return report.warn(&name, &error, "make it, or let the account in");
            }
        };
        if self.require_mount && root.require_mount().is_err() {
            return report.fact(&name, &"nothing is mounted there, so it is shut until then");
        }
        let look = root.look();
        let before = report.warnings;
        for (is_wanted, what, may) in [
            (true, "enter it", look.enter),
            (self.lists && look.enter.is_ok(), "list it", look.list),
            (self.writes, "write there", look.write),
        ] {
            let Err(errno) = may else { continue };
            if is_wanted {
                let advice = match errno {
                    Errno::ROFS => "mount it for writing, or take the right away",
                    _ => "give it to the account by chown(1), or take the right away",
                };
                report.warn(
                    &name,
                    &format_args!("{kind}{account} cannot {what}: {errno}"),
                    advice,
                );
            }
        }
        let (free, floor) = (look.free, self.storage.keep_free);
        if let (true, Some(free)) = (self.writes, free.filter(|free| *free < floor)) {
            report.warn(
                &name,
                &format_args!("{free} bytes are free, and keep-free is {floor}: no uploads"),
                "make room",
            );
        }
        if report.warnings == before {
            let note = match self.writes {
                true if look.is_memory && self.storage.durable => {
                    ", in memory: gone with the power, durable or not"
                }
                true if look.is_fat => ", FAT: no journal, owners and modes",
                true | false => "",
            };
            let rights = if self.writes { "writable" } else { "readable" };
            let free = free.unwrap_or(0) >> 20;
            report.fact(&name, &format_args!("{rights}, {free} MiB free{note}"));
        }
    }
}

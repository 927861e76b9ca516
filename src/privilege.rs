//! The system account, and root given up for it for good.
//!
//! Capabilities and user ids belong to threads: all of this is for the time before there is more
//! than one.

use std::fmt;
use std::io;

use rustix::fs::{Gid, Uid};
use rustix::io::Errno;
use rustix::process::{DumpableBehavior, Resource, Rlimit};
use rustix::thread::{CapabilitySet, CapabilitySets};

/// More capabilities than any kernel has.
const CAPABILITIES: u32 = 64;

/// An account of the system with all its groups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    /// Its name.
    pub name: String,
    /// Its user id; never 0.
    pub uid: Uid,
    /// Its primary group; never 0.
    pub gid: Gid,
    /// The primary and the supplementary groups.
    groups: Vec<Gid>,
}

/// Why a name is no account to change to.
#[derive(Debug)]
pub enum AccountError {
    /// A file cannot be read.
    Unreadable(&'static str, io::Error),
    /// passwd(5) does not have the name.
    Unknown(String),
    /// Its line has no user id and group id.
    Broken(String),
    /// It is root by another name.
    Root(String),
    /// It is a member of root's group.
    RootGroup(String),
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            AccountError::Unreadable(file, error) => write!(f, "cannot read {file}: {error}"),
            AccountError::Unknown(name) => write!(
                f,
                "account: {name:?} is not in /etc/passwd: expected an account of this system, \
                 other than root; `adduser --system {name}` makes one"
            ),
            AccountError::Broken(name) => write!(
                f,
                "account: the line of {name:?} in /etc/passwd has no user id and group id"
            ),
            AccountError::Root(name) => write!(
                f,
                "account: {name:?} has user id 0: expected an account without root's rights"
            ),
            AccountError::RootGroup(name) => write!(
                f,
                "account: {name:?} is in group 0: expected an account without root's groups"
            ),
        }
    }
}

impl std::error::Error for AccountError {}

impl Account {
    /// Looks `name` up in /etc/passwd and /etc/group. There is no NSS: a static binary has none.
    ///
    /// # Errors
    /// Why it is not to be changed to.
    pub fn find(name: &str) -> Result<Account, AccountError> {
        let read = |file| {
            std::fs::read(file)
                .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
                .map_err(|error| AccountError::Unreadable(file, error))
        };
        let passwd = read("/etc/passwd")?;
        // A system may do without groups.
        let group = match read("/etc/group") {
            Err(AccountError::Unreadable(_, error)) if error.kind() == io::ErrorKind::NotFound => {
                String::new()
            }
            other => other?,
        };
        Account::parse(name, &passwd, &group)
    }

    /// The same with the texts of passwd(5) and group(5).
    ///
    /// # Errors
    /// As [`find`](Self::find).
    pub fn parse(name: &str, passwd: &str, group: &str) -> Result<Account, AccountError> {
        let line = passwd
            .lines()
            .find_map(|line| line.split_once(':').filter(|(first, _)| *first == name))
            .ok_or_else(|| AccountError::Unknown(name.to_owned()))?;
        let mut ids = line.1.split(':').skip(1).map(id);
        let (Some(Some(uid)), Some(Some(gid))) = (ids.next(), ids.next()) else {
            return Err(AccountError::Broken(name.to_owned()));
        };
        if uid == 0 {
            return Err(AccountError::Root(name.to_owned()));
        }
        let mut groups = vec![gid];
        for line in group.lines() {
            let fields: Vec<&str> = line.split(':').collect();
            if let [_, _, number, members] = fields[..] {
                let member = members.split(',').any(|member| member.trim() == name);
                if let Some(number) = id(number).filter(|_| member) {
                    groups.push(number);
                }
            }
        }
        groups.sort_unstable();
        groups.dedup();
        if groups.contains(&0) {
            return Err(AccountError::RootGroup(name.to_owned()));
        }
        Ok(Account {
            name: name.to_owned(),
            uid: Uid::from_raw(uid),
            gid: Gid::from_raw(gid),
            groups: groups.into_iter().map(Gid::from_raw).collect(),
        })
    }
}

/// A user id or group id; the highest number means "no change" to the kernel.
fn id(text: &str) -> Option<u32> {
    text.parse().ok().filter(|id| *id != u32::MAX)
}

/// Which step of giving up failed.
#[derive(Debug)]
pub struct PrivilegeError {
    step: &'static str,
    error: io::Error,
}

impl fmt::Display for PrivilegeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "cannot give up privileges: {}: {}; nothing is served with them",
            self.step, self.error
        )
    }
}

impl std::error::Error for PrivilegeError {}

/// Whether this process has, or could take, root's user id.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root() || rustix::process::getuid().is_root()
}

/// Changes to `account`, if one is given, and gives up every capability and the way to new ones,
/// for this process and whatever it might become; then checks that nothing is left. No core is
/// dumped from here on, for it would hold private keys.
///
/// # Errors
/// The first step that failed. Serving is then out of the question.
pub fn relinquish(account: Option<&Account>) -> Result<(), PrivilegeError> {
    attempt("no core dumps", forgo_core_dumps())?;
    // Kernels before 4.3 have no ambient set.
    attempt(
        "the ambient capabilities",
        unless(Errno::INVAL, rustix::thread::clear_ambient_capability_set()),
    )?;
    shrink_bounding_set()?;
    if let Some(account) = account {
        let (uid, gid) = (account.uid, account.gid);
        attempt(
            "the groups",
            rustix::thread::set_thread_groups(&account.groups),
        )?;
        attempt(
            "the group",
            rustix::thread::set_thread_res_gid(gid, gid, gid),
        )?;
        attempt(
            "the user",
            rustix::thread::set_thread_res_uid(uid, uid, uid),
        )?;
    }
    let empty = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    attempt(
        "the capabilities",
        rustix::thread::set_capabilities(None, empty),
    )?;
    // Kernels before 3.5 do not know it.
    attempt(
        "no new privileges",
        unless(Errno::INVAL, rustix::thread::set_no_new_privs(true)),
    )?;
    verify(account, empty)
}

/// With a limit of 0 the kernel still gives the core to a program, where core_pattern begins with
/// `|`; with 1, which is too little for a file, it does neither.
fn forgo_core_dumps() -> Result<(), Errno> {
    let one = Rlimit {
        current: Some(1),
        maximum: Some(1),
    };
    match rustix::process::setrlimit(Resource::Core, one) {
        // The caller set 0, for good.
        Err(Errno::PERM) => rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable),
        other => other,
    }
}

/// So that no program could be given capabilities by exec(2). Without the right to do so the set
/// stays, and the lack of new privileges has to do.
fn shrink_bounding_set() -> Result<(), PrivilegeError> {
    for number in 0..CAPABILITIES {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // The kernel has no more; or we may not.
            Err(Errno::INVAL | Errno::PERM) => break,
            Err(error) => return attempt("the bounding set", Err(error)),
        }
    }
    Ok(())
}

/// Tries to get root back, which must fail.
fn verify(account: Option<&Account>, empty: CapabilitySets) -> Result<(), PrivilegeError> {
    let left = |step| {
        let error = io::Error::other("they are still there afterwards");
        Err(PrivilegeError { step, error })
    };
    let root = Uid::ROOT;
    if is_root() || rustix::thread::set_thread_res_uid(root, root, root).is_ok() {
        return left("root's user id");
    }
    if let Some(account) = account {
        let group = Gid::ROOT;
        if rustix::thread::set_thread_res_gid(group, group, group).is_ok() {
            return left("root's group id");
        }
        if rustix::thread::set_thread_groups(&[group]).is_ok() {
            return left("root's groups");
        }
        let ids = (
            rustix::process::getuid(),
            rustix::process::geteuid(),
            rustix::process::getgid(),
            rustix::process::getegid(),
        );
        if ids != (account.uid, account.uid, account.gid, account.gid) {
            return left("the ids from before");
        }
    }
    match rustix::thread::capabilities(None) {
        Ok(sets) if sets == empty => Ok(()),
        Ok(_) => left("capabilities"),
        Err(error) => attempt("capabilities", Err(error)),
    }
}

fn attempt(step: &'static str, done: Result<(), Errno>) -> Result<(), PrivilegeError> {
    done.map_err(|error| PrivilegeError {
        step,
        error: error.into(),
    })
}

/// Success where the kernel says `harmless`.
fn unless(harmless: Errno, done: Result<(), Errno>) -> Result<(), Errno> {
    done.or_else(|error| {
        if error == harmless {
            Ok(())
        } else {
            Err(error)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
        ftp:x:101:102::/srv/ftp:/usr/sbin/nologin\n\
        ftp:x:7:7::/:/bin/sh\n\
        toor:x:0:5::/root:/bin/sh\n\
        cut:x:3\n\
        words:x:ftp:ftp::/:/bin/sh\n\
        none:x:4294967295:5::/:/bin/sh\n\
        wheel:x:9:0::/:/bin/sh\n\
        admin:x:8:8::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:admin\n\
        ftp:x:102:\n\
        media:x:44:alice, ftp\n\
        data:x:33:ftp\n\
        again:x:44:ftp\n\
        ftpx:x:55:ftpx,xftp\n\
        broken:x:ftp\n\
        more:x:x:ftp\n";

    fn parse(name: &str) -> Result<Account, AccountError> {
        Account::parse(name, PASSWD, GROUP)
    }

    #[test]
    fn an_account_with_all_its_groups() {
        let account = parse("ftp").unwrap();
        assert_eq!(account.uid.as_raw(), 101, "the first line counts");
        assert_eq!(account.gid.as_raw(), 102);
        let groups: Vec<u32> = account.groups.iter().map(|gid| gid.as_raw()).collect();
        assert_eq!(groups, [33, 44, 102]);
    }

    #[test]
    fn names_that_are_no_account() {
        assert!(matches!(parse("nobody"), Err(AccountError::Unknown(_))));
        assert!(matches!(parse("ft"), Err(AccountError::Unknown(_))));
        assert!(matches!(parse(""), Err(AccountError::Unknown(_))));
        for name in ["cut", "words", "none"] {
            assert!(
                matches!(parse(name), Err(AccountError::Broken(_))),
                "{name}"
            );
        }
    }

    #[test]
    fn root_by_any_name_is_refused() {
        assert!(matches!(parse("root"), Err(AccountError::Root(_))));
        assert!(matches!(parse("toor"), Err(AccountError::Root(_))));
        for name in ["wheel", "admin"] {
            assert!(matches!(parse(name), Err(AccountError::RootGroup(_))));
        }
    }

    /// Ids and capabilities belong to a thread, so each case has one.
    fn in_a_thread<T: Send + 'static>(run: impl FnOnce() -> T + Send + 'static) -> T {
        std::thread::spawn(run).join().unwrap()
    }

    fn account() -> Account {
        parse("ftp").unwrap()
    }

    #[test]
    #[ignore = "needs root: make test"]
    fn what_is_left_of_root_is_found() {
        let empty = CapabilitySets {
            effective: CapabilitySet::empty(),
            permitted: CapabilitySet::empty(),
            inheritable: CapabilitySet::empty(),
        };
        let step = |done: Result<(), PrivilegeError>| done.unwrap_err().step;
        let root = Uid::ROOT;
        let uid = account().uid;
        assert_eq!(step(verify(None, empty)), "root's user id");
        // Root is saved, real, or to be had by a capability.
        for (real, effective, saved) in [(uid, uid, root), (root, uid, uid)] {
            let found = in_a_thread(move || {
                rustix::thread::set_thread_res_uid(real, effective, saved).unwrap();
                verify(None, empty)
            });
            assert_eq!(step(found), "root's user id");
        }
        let found = in_a_thread(move || {
            let mut sets = rustix::thread::capabilities(None).unwrap();
            rustix::thread::set_keep_capabilities(true).unwrap();
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            sets.effective = CapabilitySet::SETUID;
            rustix::thread::set_capabilities(None, sets).unwrap();
            verify(None, empty)
        });
        assert_eq!(step(found), "root's user id");
        let found = in_a_thread(move || {
            let mut sets = rustix::thread::capabilities(None).unwrap();
            rustix::thread::set_keep_capabilities(true).unwrap();
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            sets.effective = CapabilitySet::empty();
            rustix::thread::set_capabilities(None, sets).unwrap();
            verify(None, empty)
        });
        assert_eq!(step(found), "capabilities");
        // The group was forgotten.
        let found = in_a_thread(move || {
            rustix::thread::set_thread_res_uid(uid, uid, uid).unwrap();
            verify(Some(&account()), empty)
        });
        assert_eq!(step(found), "root's group id");
    }

    #[test]
    #[ignore = "needs root: make test"]
    fn nothing_of_root_is_left() {
        in_a_thread(|| {
            relinquish(Some(&account())).unwrap();
            assert!(!is_root());
            assert_eq!(rustix::process::getgroups().unwrap(), account().groups);
            // Once more is no mistake, and brings nothing back.
            relinquish(None).unwrap();
            assert!(relinquish(Some(&account())).is_err());
        });
    }
}

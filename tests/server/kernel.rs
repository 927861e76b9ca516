//! Kernels that lack system calls, which fail with ENOSYS then as in a kernel that never had them.
//!
//! A filter of seccomp(2) holds for the thread that takes it and for what that thread starts, so the
//! program is started by a thread of its own. With `FTPSD_OLD_KERNEL=1` the program under test
//! always runs on a kernel without any call of [`NEWER`], whatever the test.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io;
use std::process::{Child, Command};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

use crate::harness::program;

/// The last call of Linux 3.2, process_vm_writev(2), which is the oldest kernel that the server runs on.
const LAST: i64 = if cfg!(target_arch = "x86_64") {
    311
} else {
    271
};

/// The calls that Linux got after 3.2: name, version, number on x86-64, number elsewhere
/// (one for all machines since 5.0, and one for those with the generic table before).
pub const NEWER: [(&str, (u32, u32), i64, i64); 70] = [
    ("kcmp", (3, 5), 312, 272),
    ("finit_module", (3, 8), 313, 273),
    ("sched_setattr", (3, 14), 314, 274),
    ("sched_getattr", (3, 14), 315, 275),
    ("renameat2", (3, 15), 316, 276),
    ("seccomp", (3, 17), 317, 277),
    ("getrandom", (3, 17), 318, 278),
    ("memfd_create", (3, 17), 319, 279),
    ("kexec_file_load", (3, 17), 320, 294),
    ("bpf", (3, 18), 321, 280),
    ("execveat", (3, 19), 322, 281),
    ("userfaultfd", (4, 3), 323, 282),
    ("membarrier", (4, 3), 324, 283),
    ("mlock2", (4, 4), 325, 284),
    ("copy_file_range", (4, 5), 326, 285),
    ("preadv2", (4, 6), 327, 286),
    ("pwritev2", (4, 6), 328, 287),
    ("pkey_mprotect", (4, 9), 329, 288),
    ("pkey_alloc", (4, 9), 330, 289),
    ("pkey_free", (4, 9), 331, 290),
    ("statx", (4, 11), 332, 291),
    ("io_pgetevents", (4, 18), 333, 292),
    ("rseq", (4, 18), 334, 293),
    ("pidfd_send_signal", (5, 1), 424, 424),
    ("io_uring_setup", (5, 1), 425, 425),
    ("io_uring_enter", (5, 1), 426, 426),
    ("io_uring_register", (5, 1), 427, 427),
    ("open_tree", (5, 2), 428, 428),
    ("move_mount", (5, 2), 429, 429),
    ("fsopen", (5, 2), 430, 430),
    ("fsconfig", (5, 2), 431, 431),
    ("fsmount", (5, 2), 432, 432),
    ("fspick", (5, 2), 433, 433),
    ("pidfd_open", (5, 3), 434, 434),
    ("clone3", (5, 3), 435, 435),
    ("close_range", (5, 9), 436, 436),
    ("openat2", (5, 6), 437, 437),
    ("pidfd_getfd", (5, 6), 438, 438),
    ("faccessat2", (5, 8), 439, 439),
    ("process_madvise", (5, 10), 440, 440),
    ("epoll_pwait2", (5, 11), 441, 441),
    ("mount_setattr", (5, 12), 442, 442),
    ("quotactl_fd", (5, 14), 443, 443),
    ("landlock_create_ruleset", (5, 13), 444, 444),
    ("landlock_add_rule", (5, 13), 445, 445),
    ("landlock_restrict_self", (5, 13), 446, 446),
    ("memfd_secret", (5, 14), 447, 447),
    ("process_mrelease", (5, 15), 448, 448),
    ("futex_waitv", (5, 16), 449, 449),
    ("set_mempolicy_home_node", (5, 17), 450, 450),
    ("cachestat", (6, 5), 451, 451),
    ("fchmodat2", (6, 6), 452, 452),
    ("map_shadow_stack", (6, 6), 453, 453),
    ("futex_wake", (6, 7), 454, 454),
    ("futex_wait", (6, 7), 455, 455),
    ("futex_requeue", (6, 7), 456, 456),
    ("statmount", (6, 8), 457, 457),
    ("listmount", (6, 8), 458, 458),
    ("lsm_get_self_attr", (6, 8), 459, 459),
    ("lsm_set_self_attr", (6, 8), 460, 460),
    ("lsm_list_modules", (6, 8), 461, 461),
    ("mseal", (6, 10), 462, 462),
    ("setxattrat", (6, 13), 463, 463),
    ("getxattrat", (6, 13), 464, 464),
    ("listxattrat", (6, 13), 465, 465),
    ("removexattrat", (6, 13), 466, 466),
    ("open_tree_attr", (6, 15), 467, 467),
    ("file_getattr", (6, 17), 468, 468),
    ("file_setattr", (6, 17), 469, 469),
    ("listns", (6, 19), 470, 470),
];

/// Whether Linux 3.2 lacks the call with this number.
pub fn is_newer(number: i64) -> bool {
    number > LAST
}

/// Whether the whole run is on a kernel without the calls of [`NEWER`].
pub fn is_old() -> bool {
    std::env::var_os("FTPSD_OLD_KERNEL").is_some_and(|value| value == "1")
}

thread_local! {
    static LACKING: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Does `start`; the programs under test that it starts are on a kernel without these calls, which
/// are of [`NEWER`].
pub fn lacking<T>(calls: &[&str], start: impl FnOnce() -> T) -> T {
    struct Before(Vec<String>);
    impl Drop for Before {
        fn drop(&mut self) {
            LACKING.set(std::mem::take(&mut self.0));
        }
    }
    let calls = calls.iter().map(|&call| call.to_owned()).collect();
    let _before = Before(LACKING.replace(calls));
    start()
}

/// Starts a command; if it is about the program under test, on the kernel that is wanted.
pub fn spawn(command: &mut Command) -> io::Result<Child> {
    let program = program();
    let ours = command.get_program() == program || command.get_args().any(|word| word == program);
    let calls = if is_old() {
        NEWER.map(|(name, ..)| name.to_owned()).to_vec()
    } else {
        LACKING.with_borrow(Clone::clone)
    };
    if !ours || calls.is_empty() {
        return command.spawn();
    }
    let filter = filter(&calls);
    // That thread does nothing else: the C library would not start threads on such a kernel after
    // it has started some on its own.
    std::thread::scope(|scope| {
        let started = scope.spawn(|| {
            seccompiler::apply_filter(&filter).unwrap();
            command.spawn()
        });
        started.join().unwrap()
    })
}

fn filter(calls: &[String]) -> BpfProgram {
    const ENOSYS: u32 = 38;
    let number = |name: &String| {
        let call = NEWER.iter().find(|(known, ..)| known == name);
        let (_, _, x86_64, generic) = call.unwrap_or_else(|| panic!("{name} is not in the table"));
        let own = if cfg!(target_arch = "x86_64") {
            x86_64
        } else {
            generic
        };
        (*own, Vec::new())
    };
    let rules: BTreeMap<i64, Vec<_>> = calls.iter().map(number).collect();
    assert_eq!(rules.len(), calls.len());
    let (other, these) = (SeccompAction::Allow, SeccompAction::Errno(ENOSYS));
    let machine = TargetArch::try_from(std::env::consts::ARCH).unwrap();
    let filter = SeccompFilter::new(rules, other, these, machine).unwrap();
    filter.try_into().unwrap()
}

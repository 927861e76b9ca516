//! Names that change their meaning while the server uses them: a process on the device swaps a
//! directory, a file, a link to the outside and a FIFO, as fast as it can.
//!
//! `FTPSD_ROUNDS` multiplies the rounds.

use std::fs;
use std::os::unix::fs::{symlink, FileTypeExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use rustix::fs::{FileType, Mode, RenameFlags, CWD};

use crate::gaps::ALONE;
use crate::harness::Server;
use crate::outside::{each_resolver, Outcome, Outside, Visitor, SENT};

const INSIDE: &[u8] = b"inside the root";
/// Rounds of a command at least, and those that have to meet a swap.
const ROUNDS: usize = 40;
const SWAPPED: usize = 10;
/// Rounds at most.
const MOST_ROUNDS: usize = 4_000;
/// Nothing waits for anybody here, so only a hang takes so long.
const LONGEST: Duration = Duration::from_secs(20);

fn times() -> usize {
    std::env::var("FTPSD_ROUNDS").map_or(1, |times| times.parse().unwrap())
}

/// What two names are swapped between.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Swapped {
    Directories,
    FileAndLink,
    FileAndFifo,
}

impl Swapped {
    /// Whether the names still are one of each kind. An upload may have replaced one.
    fn is_whole(self, one: &Path, other: &Path) -> bool {
        let kinds =
            [one, other].map(|path| fs::symlink_metadata(path).map(|data| data.file_type()));
        let [Ok(one), Ok(other)] = kinds else {
            return false;
        };
        match self {
            Swapped::Directories => one.is_symlink() != other.is_symlink(),
            Swapped::FileAndLink => one.is_symlink() != other.is_symlink(),
            Swapped::FileAndFifo => one.is_fifo() != other.is_fifo(),
        }
    }

    fn make(self, one: &Path, other: &Path) {
        if self == Swapped::Directories {
            if !one.exists() {
                fs::create_dir(one).unwrap();
                symlink("../scratch/outside", other).unwrap();
            }
            return;
        }
        for path in [one, other] {
            let _ = fs::remove_file(path);
        }
        // An upload may be first: then it is made again.
        let _ = fs::write(one, INSIDE);
        match self {
            Swapped::FileAndFifo => {
                let mode = Mode::from_raw_mode(0o600);
                let _ = rustix::fs::mknodat(CWD, other, FileType::Fifo, mode, 0);
            }
            Swapped::FileAndLink | Swapped::Directories => {
                let _ = symlink("../scratch/outside/hidden", other);
            }
        }
    }
}

/// Puts back what commands have taken out of the directory.
fn refill(one: &Path, other: &Path) {
    let directory = if one.is_symlink() { other } else { one };
    if !directory.join("hidden").exists() {
        fs::write(directory.join("hidden"), INSIDE).unwrap();
    }
    let _ = fs::create_dir(directory.join("inner"));
}

/// Does `visit` while two names in the root are swapped all the time, and has it count the swaps.
fn while_swapping(swapped: Swapped, names: [PathBuf; 2], visit: impl FnOnce(&AtomicUsize) + Send) {
    let [one, other] = &names;
    swapped.make(one, other);
    let (swaps, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                match rustix::fs::renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE) {
                    Ok(()) => swaps.fetch_add(1, Ordering::Relaxed),
                    Err(_) => 0,
                };
                if !swapped.is_whole(one, other) {
                    swapped.make(one, other);
                    swaps.fetch_add(1, Ordering::Relaxed);
                }
                if swapped == Swapped::Directories {
                    refill(one, other);
                }
            }
        });
        // The swapping ends also with a failure.
        let visited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| visit(&swaps)));
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = visited {
            std::panic::resume_unwind(panic);
        }
    });
}

/// How the rounds of one command ended.
#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    succeeded: usize,
    refused: usize,
    /// In which at least one swap took place.
    swapped: usize,
}

/// Gives a command in all its rounds, `#` in it being the round's number.
fn repeat(
    visitor: &mut Visitor,
    swaps: &AtomicUsize,
    form: &str,
    check: impl Fn(&Outcome),
) -> Counts {
    let mut counts = Counts::default();
    let mut seen = 0;
    let (least, swapped, most) = (ROUNDS * times(), SWAPPED * times(), MOST_ROUNDS * times());
    for round in 0..most {
        if round >= least && counts.swapped >= swapped {
            break;
        }
        let commands = form.replace('#', &round.to_string());
        // A swap is under way again: on few processors the commands might be alone for long.
        let waiting = Instant::now();
        while swaps.load(Ordering::Relaxed) == seen && waiting.elapsed() < LONGEST {
            std::thread::yield_now();
        }
        seen = swaps.load(Ordering::Relaxed);
        let (before, begin) = (swaps.load(Ordering::Relaxed), Instant::now());
        let outcome = visitor.perform(&commands);
        assert!(begin.elapsed() < LONGEST, "{commands}: {outcome:?}");
        counts.swapped += usize::from(swaps.load(Ordering::Relaxed) > before);
        outcome.tells_nothing(&commands);
        match outcome.code {
            200..400 => counts.succeeded += 1,
            450 | 451 | 501 | 550 | 553 | 554 => counts.refused += 1,
            _ => panic!("{commands}: {outcome:?}"),
        }
        check(&outcome);
    }
    println!("{form:?}: {counts:?}");
    // It was a race.
    assert!(counts.swapped >= swapped, "{form}: {counts:?}");
    counts
}

/// All forms, each in rounds of its own; what comes with a mark and success is checked.
fn visit(server: &Server, swapped: Swapped, names: [&str; 2], forms: &[&str]) {
    let mut outside = Outside::new(server);
    let paths = names.map(|name| server.file(name));
    while_swapping(swapped, paths, |swaps| {
        let mut visitor = Visitor::new(server);
        let mut all = Counts::default();
        for form in forms {
            let counts = repeat(&mut visitor, swaps, form, |outcome| {
                let data = String::from_utf8_lossy(&outcome.data);
                if form.starts_with("RETR") && outcome.is_success() {
                    // Some of the commands before may have written to it.
                    let own = data.replace(std::str::from_utf8(SENT).unwrap(), "");
                    assert!(own.is_empty() || own.as_bytes() == INSIDE, "{outcome:?}");
                }
            });
            all.succeeded += counts.succeeded;
            all.refused += counts.refused;
        }
        println!("{} swaps, {all:?}", swaps.load(Ordering::Relaxed));
        // Either came of it.
        assert!(all.succeeded > 0 && all.refused > 0, "{all:?}");
    });
    outside.is_untouched("the races");
    // Whatever was made, was made inside.
    assert!(!server.file("scratch").exists());
    // And the server serves.
    let mut visitor = Visitor::new(server);
    assert!(visitor
        .perform("STOR last\nRETR last\nDELE last")
        .is_success());
}

#[test]
fn a_directory_becomes_a_link_to_the_outside() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for server in each_resolver("") {
        fs::write(server.file("file"), INSIDE).unwrap();
        let forms = [
            "RETR d/hidden",
            "REST 3\nREST 0\nRETR d/hidden",
            "HASH d/hidden",
            "SIZE d/hidden",
            "MFMT 20160606060606 d/hidden",
            "MFMT 20160606060606 d",
            "LIST d",
            "MLSD d",
            "NLST d/*",
            "STAT d",
            "CWD d\nCWD /",
            "STOR d/up-#",
            "RETR d/up-#",
            "APPE d/up-#",
            "REST 4\nSTOR d/up-#",
            "RNFR d/up-#\nRNTO d/renamed-#",
            "RNFR d/renamed-#\nRNTO moved-#",
            "RNFR moved-#\nRNTO d/moved-#",
            "DELE d/moved-#",
            "APPE d/hidden",
            "MKD d/new-#",
            "RMD d/new-#",
            "RMD d/inner",
            "MKD d/inner",
            "RNFR d/inner\nRNTO inner-#\nRNFR inner-#\nRNTO d/inner",
            "RETR d/hidden",
            "LIST d/inner",
            "DELE d/SECRET-file",
            "STOR d/inner/new-#",
            "DELE d/hidden",
            "CWD d\nLIST\nCWD /",
        ];
        visit(&server, Swapped::Directories, ["d", "d2"], &forms);
    }
}

#[test]
fn a_file_becomes_a_link_to_the_outside() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for server in each_resolver("") {
        let forms = [
            "RETR f",
            "HASH f",
            "SIZE f",
            "MDTM f",
            "MFMT 20160606060606 f",
            "MLST f",
            "RETR f2",
            "APPE f",
            "REST 5\nSTOR f",
            "STOR f",
            "RETR f",
            "RNFR f\nRNTO g-#",
            "RETR g-#",
            "DELE f",
            "STOR g\nRNFR g\nRNTO f",
            "MKD f",
            "RMD f",
            "LIST f",
            "REST 5\nSTOR f2",
            "APPE f2",
        ];
        visit(&server, Swapped::FileAndLink, ["f", "f2"], &forms);
    }
}

#[test]
fn a_file_becomes_a_fifo() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for server in each_resolver("") {
        let forms = [
            "RETR f",
            "HASH f",
            "SIZE f",
            "MFMT 20160606060606 f",
            "APPE f",
            "REST 5\nSTOR f",
            "STOR f",
            "RETR f2",
            "RNFR f\nRNTO g-#",
            "DELE f",
            "APPE f2",
            "RETR f",
            "HASH f2",
        ];
        visit(&server, Swapped::FileAndFifo, ["f", "f2"], &forms);
    }
}

/// A directory is moved out of the root and back, so that `..` in it leads elsewhere.
#[test]
fn a_directory_is_moved_out() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    for server in each_resolver("") {
        let mut outside = Outside::new(&server);
        fs::create_dir_all(server.file("deep/moved/sub")).unwrap();
        // From the place it is moved to, this is the secret; from its own there is nothing.
        for link in ["deep/moved/up", "deep/moved/sub/up"] {
            symlink("../outside/hidden", server.file(link)).unwrap();
        }
        symlink("../../outside/hidden", server.file("deep/moved/sub/up2")).unwrap();
        symlink("../outside", server.file("deep/moved/directory")).unwrap();
        fs::write(server.file("deep/moved/hidden"), INSIDE).unwrap();
        let (place, away) = (server.file("deep/moved"), server.scratch().join("moved"));
        let (moves, over) = (AtomicUsize::new(0), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    fs::rename(&place, &away).unwrap();
                    fs::rename(&away, &place).unwrap();
                    moves.fetch_add(1, Ordering::Relaxed);
                }
            });
            let forms = [
                "RETR deep/moved/hidden",
                "RETR deep/moved/up",
                "RETR deep/moved/sub/up",
                "RETR deep/moved/sub/up2",
                "SIZE deep/moved/sub/up2",
                "HASH deep/moved/up",
                "MFMT 20160606060606 deep/moved/sub/up2",
                "LIST deep/moved/directory",
                "MLSD deep/moved/directory",
                "CWD deep/moved/sub/../directory\nCWD /",
                "MKD deep/moved/directory/new-#",
                "APPE deep/moved/directory/hidden",
                "STOR deep/moved/directory/new-#",
                "DELE deep/moved/directory/hidden",
            ];
            let visited = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let mut visitor = Visitor::new(&server);
                let mut all = Counts::default();
                for form in forms {
                    let counts = repeat(&mut visitor, &moves, form, |outcome| {
                        let own = form.ends_with("moved/hidden");
                        assert!(own || !outcome.is_success(), "{form}: {outcome:?}");
                    });
                    all.succeeded += counts.succeeded;
                }
                assert!(all.succeeded > 0, "{all:?}");
            }));
            over.store(true, Ordering::Relaxed);
            if let Err(panic) = visited {
                std::panic::resume_unwind(panic);
            }
        });
        outside.is_untouched("a directory that is moved out");
    }
}

//! Nothing outside the root can be reached, by whatever name, verb or link, with either resolver.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::path::Path;

use rustix::fs::{FileType, Mode, CWD};

use crate::harness::Server;
use crate::kernel;
use crate::outside::{each_resolver, Outcome, Outside, Visitor, PLAIN, SENT};

/// What a visitor tries on a pathname, `@`. The second word says whether that may succeed when
/// the pathname is of a symbolic link, as it is done to the link itself.
const TRIED: [(&str, bool); 25] = [
    ("RETR @", false),
    ("REST 2\nRETR @", false),
    ("HASH @", false),
    ("SIZE @", false),
    ("MDTM @", false),
    ("MLST @", false),
    ("MLSD @", false),
    ("CWD @", false),
    ("CWD @\nLIST", false),
    ("CWD @\nSTOR new", false),
    ("CWD @\nCWD ..\nLIST", false),
    ("STOR @/new", false),
    ("MKD @/new", false),
    ("MFMT 20160606060606 @", false),
    ("REST 2\nSTOR @", false),
    ("APPE @", false),
    ("MKD @", false),
    ("RMD @", false),
    ("RNFR in/file\nRNTO @/new", false),
    ("RNFR @/hidden\nRNTO got", false),
    ("DELE @/hidden", false),
    ("STOR @", true),
    ("DELE @", true),
    ("RNFR in/file\nRNTO @", true),
    ("RNFR @\nRNTO got", true),
];

/// What may succeed, but has nothing to tell.
const LISTED: [&str; 7] = [
    "LIST @",
    "NLST @",
    "STAT @",
    "LIST @/*",
    "NLST @/*",
    "LIST @*",
    "NLST @/hid*",
];

/// Makes the root anew, with every kind of way out.
fn furnish(server: &Server) {
    let root = server.root();
    // Sessions hold the root itself.
    for entry in fs::read_dir(&root).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
    fs::create_dir_all(root.join("in/deep")).unwrap();
    fs::write(root.join("in/file"), b"inside").unwrap();
    let scratch = server.scratch();
    let outside = scratch.join("outside");
    let outside = outside.to_str().unwrap();
    let above = root.parent().unwrap().to_str().unwrap();
    let up = "../".repeat(30);
    let links: [(&str, String); 18] = [
        ("inner", "in/file".into()),
        ("relative", "../scratch/outside".into()),
        ("absolute", outside.into()),
        ("far", format!("{up}{outside}")),
        ("chain", "in/one".into()),
        ("in/one", "/in/deep/two".into()),
        ("in/deep/two", "../../relative".into()),
        ("parent", "..".into()),
        ("above", above.into()),
        ("in/deep/out", "../../../scratch".into()),
        ("winding", "in/deep/../../../scratch/outside".into()),
        ("slash", "../scratch/outside/".into()),
        ("magic", "/proc/self/root".into()),
        ("magic-far", format!("{up}proc/self/root")),
        ("magic-cwd", format!("{up}proc/self/cwd")),
        ("file", "../scratch/outside/hidden".into()),
        ("file-absolute", format!("{outside}/hidden")),
        ("file-chain", "in/deep/../../file".into()),
    ];
    for (name, target) in links {
        symlink(target, root.join(name)).unwrap();
    }
}

/// Pathnames that would lead outside, and whether the last component is a link there.
fn ways_out(server: &Server) -> Vec<(String, bool)> {
    let outside = server.scratch().join("outside");
    let outside = outside.to_str().unwrap();
    let mut ways = Vec::new();
    for up in [
        "..",
        "/..",
        "../..",
        "./.././..",
        "in/../..",
        "/in/deep/../../..",
        "..//",
        "in/./..//..",
        "nothing/../..",
        "inner/../..",
        "relative/..",
        "/../../../../../../../..",
    ] {
        ways.push((format!("{up}/scratch/outside"), false));
        ways.push((format!("{up}/scratch/outside/hidden"), false));
        ways.push((format!("{up}{outside}"), false));
    }
    for link in [
        "relative",
        "absolute",
        "far",
        "chain",
        "in/one",
        "winding",
        "slash",
        "file",
        "file-absolute",
        "file-chain",
        "magic",
        "magic-far",
        "magic-cwd",
    ] {
        ways.push((link.to_owned(), true));
        ways.push((format!("/{link}"), true));
    }
    for middle in ["relative", "absolute", "far", "chain", "winding", "slash"] {
        ways.push((format!("{middle}/inner"), false));
        ways.push((format!("{middle}/hidden"), false));
        ways.push((format!("/{middle}/../{middle}/inner/hidden"), false));
    }
    for middle in ["parent", "above", "in/deep/out/..", "magic"] {
        ways.push((format!("{middle}/scratch/outside"), false));
        ways.push((format!("{middle}{outside}/hidden"), false));
    }
    ways.push(("in/deep/out/outside".to_owned(), false));
    ways
}

#[test]
fn no_name_or_link_leads_outside() {
    for server in each_resolver("") {
        let mut outside = Outside::new(&server);
        furnish(&server);
        let mut visitor = Visitor::new(&server);
        let mut done = 0;
        for (path, link) in ways_out(&server) {
            let tried = TRIED.iter().map(|&(form, own)| (form, Some(own)));
            for (form, own) in tried.chain(LISTED.map(|form| (form, None))) {
                let commands = form.replace('@', &path);
                let outcome = visitor.perform(&commands);
                outcome.tells_nothing(&commands);
                if outcome.is_success() {
                    match own {
                        Some(own) => assert!(own && link, "{commands}: {outcome:?}"),
                        // STAT has a frame of two lines.
                        None => assert!(
                            outcome.data.is_empty() && outcome.text.lines().count() <= 2,
                            "{commands}: {outcome:?}"
                        ),
                    }
                }
                if own == Some(true) && outcome.is_success() {
                    furnish(&server);
                }
                assert!(visitor.perform("CWD /").is_success());
                done += 1;
            }
            outside.is_untouched(&path);
            // What was made, was made inside.
            assert!(!server.file("scratch").exists(), "{path}");
        }
        assert!(done > 2000, "{done}");
        let works = |outcome: Outcome| assert!(outcome.is_success(), "{outcome:?}");
        // The same on what is inside.
        furnish(&server);
        for form in ["RETR inner", "SIZE inner", "HASH inner", "MDTM inner"] {
            works(visitor.perform(form));
        }
        works(visitor.perform("CWD parent"));
        let listed = visitor.perform("NLST").data;
        assert!(String::from_utf8_lossy(&listed).contains("in\r\n"));
    }
}

#[test]
fn magic_links_lead_nowhere() {
    let start = || {
        Server::start_as(PLAIN, &[(crate::harness::USER, "\"full\"")], |command| {
            let config = Path::new(command.get_args().last().unwrap()).to_owned();
            let text = fs::read_to_string(&config).unwrap();
            let root = config.with_file_name("root");
            fs::write(
                &config,
                text.replace(&format!("root = {root:?}"), "root = \"/\""),
            )
            .unwrap();
        })
    };
    for server in [start(), kernel::lacking(&["openat2"], start)] {
        let mut outside = Outside::new(&server);
        let place = outside.place.to_str().unwrap().to_owned();
        let mut visitor = Visitor::new(&server);
        let log = "proc/self/fd/2";
        for path in [
            format!("proc/self/root{place}/hidden"),
            format!("proc/self/root{place}"),
            "proc/self/exe".to_owned(),
            "proc/self/cwd".to_owned(),
            log.to_owned(),
            format!("proc/{}/cwd{place}/hidden", server.pid()),
            format!("proc/thread-self/root{place}/hidden"),
            "dev/fd/0".to_owned(),
        ] {
            for (form, _) in TRIED {
                // They would be done to /proc itself, which refuses them.
                let commands = form.replace("in/file", "nothing").replace('@', &path);
                let outcome = visitor.perform(&commands);
                outcome.tells_nothing(&commands);
                assert!(!outcome.is_success(), "{commands}: {outcome:?}");
                assert!(visitor.perform("CWD /").is_success());
            }
        }
        outside.is_untouched("magic links");
        assert!(visitor.perform("RETR proc/self/status").is_success());
        assert!(visitor.perform("CWD proc/self").is_success());
    }
}

#[test]
fn forty_links_and_no_more() {
    for server in each_resolver("") {
        fs::write(server.file("0"), b"inside").unwrap();
        fs::create_dir(server.file("d0")).unwrap();
        fs::write(server.file("d0/x"), b"inside").unwrap();
        for number in 1..=41 {
            let before = number - 1;
            symlink(before.to_string(), server.file(number.to_string())).unwrap();
            symlink(format!("d{before}"), server.file(format!("d{number}"))).unwrap();
        }
        let mut visitor = Visitor::new(&server);
        for form in [
            "RETR @",
            "SIZE @",
            "HASH @",
            "RETR d@/x",
            "LIST d@",
            "STOR d@/new",
            "CWD d@",
        ] {
            assert_eq!(
                visitor.perform(&form.replace('@', "41")).code,
                550,
                "{form}"
            );
            let outcome = visitor.perform(&form.replace('@', "40"));
            assert!(outcome.is_success(), "{form}: {outcome:?}");
        }
        assert_eq!(fs::read(server.file("d0/new")).unwrap(), SENT);
    }
}

/// A device is for root to make: tests/privileged.
#[test]
fn what_is_no_file_is_not_opened() {
    for server in each_resolver("") {
        let fifo = server.file("fifo");
        rustix::fs::mknodat(CWD, &fifo, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let socket = UnixListener::bind(server.file("socket")).unwrap();
        socket.set_nonblocking(true).unwrap();
        symlink("fifo", server.file("to-fifo")).unwrap();
        symlink("socket", server.file("to-socket")).unwrap();
        // Whoever opens the FIFO for reading ends this: and whoever writes is heard.
        let open = fs::File::options()
            .read(true)
            .write(true)
            .open(&fifo)
            .unwrap();
        let mut visitor = Visitor::new(&server);
        for name in ["fifo", "socket", "to-fifo", "to-socket"] {
            for (form, own) in TRIED {
                // What is done to a name opens nothing, nor does a look at it.
                if own || ["MDTM @", "MLST @"].contains(&form) {
                    continue;
                }
                let commands = form.replace("in/file", "gone").replace('@', name);
                let outcome = visitor.perform(&commands);
                assert!(!outcome.is_success(), "{commands}: {outcome:?}");
            }
            let link = name.starts_with("to-");
            assert_eq!(visitor.perform(&format!("STOR {name}")).is_success(), link);
        }
        for name in ["fifo", "socket"] {
            // Neither a file nor a directory in MLSD; what a name is done to is no opening.
            let listed = visitor.perform("MLSD").data;
            let listed = String::from_utf8(listed).unwrap();
            let line = listed
                .lines()
                .find(|line| line.ends_with(&format!(" {name}")));
            assert!(
                line.is_none_or(|line| !line.contains("type=file")),
                "{listed}"
            );
            let renamed = format!("RNFR {name}\nRNTO {name}-2\nDELE {name}-2");
            assert!(visitor.perform(&renamed).is_success());
        }
        assert_eq!(rustix::io::ioctl_fionread(&open), Ok(0));
        assert!(socket.accept().is_err());
    }
}

//! README.md, ARCHITECTURE.md, CLIENTS.md, CONTRIBUTING.md, FLEETS.md, SECURITY.md.

use std::collections::BTreeSet;
use std::fs;

use ftpsd::proto::command::Command;

use crate::{files_below, parse, root, same, sources, text};

/// The part of a page in Markdown from one heading to the next of its level.
fn chapter<'a>(page: &'a str, heading: &str) -> &'a str {
    let rest = page
        .split_once(&format!("\n## {heading}\n"))
        .unwrap_or_else(|| panic!("no chapter {heading}"))
        .1;
    rest.split_once("\n## ").map_or(rest, |(part, _)| part)
}

/// One column of the tables in a text, without headings.
fn column(text: &str, number: usize) -> Vec<&str> {
    text.lines()
        .filter(|line| line.starts_with('|') && !line.starts_with("| ---"))
        .filter_map(|line| line.split('|').nth(number + 1))
        .map(str::trim)
        .skip(1)
        .collect()
}

/// What stands between grave accents.
fn quoted(text: &str) -> BTreeSet<String> {
    text.lines()
        .filter(|line| !line.starts_with("    ") && !line.starts_with("```"))
        .flat_map(|line| line.split('`').skip(1).step_by(2))
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_readme_has_every_verb() {
    let readme = text("README.md");
    let document: BTreeSet<String> = column(chapter(&readme, "Commands"), 0)
        .iter()
        .filter(|cell| !cell.starts_with('('))
        .flat_map(|cell| cell.split_whitespace())
        .map(str::to_owned)
        .collect();
    let code = Command::VERBS.map(str::to_owned).into();
    same("verbs in README.md", &code, &document);
}

#[test]
fn the_readme_has_a_configuration_that_loads() {
    let readme = text("README.md");
    let (_, rest) = readme.split_once("```toml\n").unwrap();
    let (example, _) = rest.split_once("```").unwrap();
    let disabled = example.replace("$6$...", "*");
    assert_ne!(disabled, example);
    parse(&disabled).unwrap();
}

#[test]
fn the_architecture_has_every_dependency() {
    let manifest = text("Cargo.toml");
    let code: BTreeSet<String> = manifest
        .lines()
        .skip_while(|line| *line != "[dependencies]")
        .skip(1)
        .take_while(|line| !line.starts_with('['))
        .filter_map(|line| line.split_once(" = "))
        .map(|(name, _)| name.trim().to_owned())
        .collect();
    assert!(code.len() > 10, "{code:?}");
    let architecture = text("ARCHITECTURE.md");
    let document = column(chapter(&architecture, "Dependencies"), 0)
        .iter()
        .flat_map(|cell| quoted(cell))
        .collect();
    same("dependencies in ARCHITECTURE.md", &code, &document);
}

#[test]
fn the_code_map_has_every_module() {
    let architecture = text("ARCHITECTURE.md");
    let document = column(chapter(&architecture, "Code map"), 1)
        .iter()
        .flat_map(|cell| quoted(cell))
        .collect();
    let code: BTreeSet<String> = sources()
        .into_iter()
        .map(|(name, _)| name["src/".len()..].to_owned())
        .collect();
    assert!(code.len() > 25, "{code:?}");
    same("files in ARCHITECTURE.md", &code, &document);
}

/// Names in prose go stale first: files, functions, types and tests must still be there.
#[test]
fn what_the_documents_point_at_is_there() {
    let mut code = String::new();
    for name in files_below("src").into_iter().chain(files_below("tests")) {
        if name.ends_with(".rs") && !name.starts_with("tests/documents/") {
            code += &text(&name);
        }
    }
    let has_word = |word: &str| {
        code.match_indices(word).any(|(at, _)| {
            let part = |char: char| char.is_alphanumeric() || char == '_';
            !code[..at].ends_with(part) && !code[at + word.len()..].starts_with(part)
        })
    };
    assert!(has_word("pool") && !has_word("poo"));
    let mut checked = 0;
    for page in [
        "ARCHITECTURE.md",
        "CLIENTS.md",
        "CONTRIBUTING.md",
        "FLEETS.md",
        "SECURITY.md",
    ] {
        // That one names functions of others.
        let is_ours = page != "CLIENTS.md";
        for name in quoted(&text(page)) {
            let is_name = |name: &str| {
                !name.is_empty()
                    && name
                        .bytes()
                        .all(|byte| byte.is_ascii_alphanumeric() || b"_:".contains(&byte))
            };
            let is_path = name.contains('/') && !name.contains([' ', '*', '~']);
            if is_path && !name.starts_with('/') {
                let file = root().join(&name);
                let in_map = root().join("src").join(&name);
                assert!(file.exists() || in_map.exists(), "{page}: no file {name}");
                checked += 1;
            } else if is_ours
                && is_name(&name)
                && (name.contains("::") || name.matches('_').count() > 1)
            {
                for word in name.split("::") {
                    let known = has_word(word) || text("Cargo.toml").contains(word);
                    assert!(known, "{page}: nothing is called {word} ({name})");
                }
                checked += 1;
            }
        }
    }
    assert!(checked > 60, "only {checked} names were checked");
}

/// Without a choice it is all of them: what another file gives a variable of the same name is none.
#[test]
fn make_fuzz_takes_the_targets_it_is_given() {
    let commands = |words: &[&str]| {
        let made = std::process::Command::new("make")
            .args(["--no-print-directory", "-n", "fuzz"])
            .args(words)
            .current_dir(root())
            // This may run below a make with words of its own.
            .env_remove("MAKEFLAGS")
            .env_remove("MINUTES")
            .output()
            .unwrap();
        String::from_utf8(made.stdout).unwrap()
    };
    assert_eq!(commands(&[]).trim(), "tests/fuzz/run 10");
    let some = ["MINUTES=1", "ONLY=line path"];
    assert_eq!(commands(&some).trim(), "tests/fuzz/run 1 line path");
}

#[test]
fn commands_of_make_exist() {
    let mut targets = BTreeSet::new();
    for file in ["Makefile", "cross/cross.mk"] {
        for line in fs::read_to_string(root().join(file))
            .unwrap_or_default()
            .lines()
        {
            if let Some((names, _)) = line.split_once(':') {
                if !line.starts_with(['\t', ' ', '.', '#']) {
                    targets.extend(names.split_whitespace().map(str::to_owned));
                }
            }
        }
    }
    if targets.is_empty() {
        return;
    }
    assert!(
        targets.contains("run") && targets.contains("cross"),
        "{targets:?}"
    );
    let mut checked = 0;
    for page in [
        "README.md",
        "CLIENTS.md",
        "CONTRIBUTING.md",
        "FLEETS.md",
        "cross/README.md",
        "SECURITY.md",
    ] {
        for line in text(page).lines() {
            let commands: Vec<&str> = match line.strip_prefix("    ") {
                Some(command) => vec![command],
                None => line.split('`').skip(1).step_by(2).collect(),
            };
            for target in commands
                .into_iter()
                .filter_map(|command| command.trim().strip_prefix("make "))
                .filter_map(|rest| rest.split_whitespace().next())
            {
                assert!(targets.contains(target), "{page}: make {target}");
                checked += 1;
            }
        }
    }
    assert!(checked > 6, "only {checked} commands were checked");
}

/// A row for each file of a target, with the kernel that it names.
#[test]
fn the_table_of_targets_is_that_of_the_target_files() {
    let page = text("cross/README.md");
    let document = column(&page, 0)
        .into_iter()
        .zip(column(&page, 2))
        .map(|(target, kernel)| format!("{} {kernel}", target.trim_matches('`')))
        .collect();
    let code: BTreeSet<String> = files_below("cross")
        .iter()
        .filter_map(|name| name.strip_prefix("cross/")?.strip_suffix(".conf"))
        .filter(|target| !target.contains('/'))
        .map(|target| {
            let conf = text(&format!("cross/{target}.conf"));
            let kernel = conf.lines().find_map(|line| line.strip_prefix("KERNEL="));
            format!("{target} {}", kernel.unwrap())
        })
        .collect();
    assert!(code.len() >= 5, "{code:?}");
    same("targets in cross/README.md", &code, &document);
}

/// From nothing to a server on the board; tests/init/dist runs the two of the board.
#[test]
fn a_board_takes_five_commands() {
    let page = text("cross/README.md");
    let commands: Vec<&str> = chapter(&page, "From nothing to a binary on the board")
        .lines()
        .skip_while(|line| !line.starts_with("    "))
        .take_while(|line| line.starts_with("    "))
        .map(str::trim_start)
        .collect();
    let programs: Vec<&str> = commands
        .iter()
        .filter_map(|line| line.split(' ').next())
        .collect();
    assert_eq!(programs, ["sudo", "make", "scp", "ssh", "ssh"]);
    let (_, target) = commands[1].split_once("make dist TARGET=").unwrap();
    assert!(root().join(format!("cross/{target}.conf")).is_file());
    assert!(commands[2].contains(target));
}

#[test]
fn the_documents_stay_short() {
    // README has a row for each command.
    for (page, most) in [
        ("README.md", 200),
        ("ARCHITECTURE.md", 240),
        ("FLEETS.md", 150),
        ("CLIENTS.md", 210),
    ] {
        let lines = text(page).lines().count();
        assert!(lines <= most, "{page} has {lines} lines");
    }
}

/// cargo-deny knows the advisory that SECURITY.md gives the reason for.
#[test]
fn ignored_advisories_have_a_reason() {
    let advisories = |text: &str| -> BTreeSet<String> {
        text.split("RUSTSEC-")
            .skip(1)
            .map(|rest| rest.chars().take(9).collect())
            .collect()
    };
    let ignored = advisories(&text("deny.toml"));
    assert!(!ignored.is_empty());
    same("SECURITY.md", &ignored, &advisories(&text("SECURITY.md")));
}

/// Whoever makes a release changes them all.
#[test]
fn the_version_is_the_same_everywhere() {
    let manifest = text("Cargo.toml");
    let version = manifest
        .lines()
        .find_map(|line| line.strip_prefix("version = \"")?.strip_suffix('"'))
        .unwrap();
    let packages = "cross/packages";
    for (page, form) in [
        ("src/ftpsd.8", format!("version {version}.")),
        ("README.md", format!("**Version {version} ")),
        ("SECURITY.md", format!("Version {version} ")),
        (
            "SECURITY.md",
            format!("## Not protected yet in {version}\n"),
        ),
        ("CHANGELOG.md", format!("({version})\n")),
        (
            &format!("{packages}/buildroot/package/ftpsd/ftpsd.mk"),
            format!("FTPSD_VERSION = {version}\n"),
        ),
        (
            &format!("{packages}/openwrt/ftpsd/Makefile"),
            format!("PKG_VERSION:={version}\n"),
        ),
    ] {
        assert!(text(page).contains(&form), "{page} has no {form:?}");
    }
    let recipe = format!("{packages}/yocto/meta-ftpsd/recipes-daemons/ftpsd/ftpsd_{version}.bb");
    assert!(root().join(&recipe).is_file(), "there is no {recipe}");
}

/// The first block of code in this language.
fn block<'a>(page: &'a str, language: &str) -> &'a str {
    let (_, rest) = page.split_once(&format!("\n```{language}\n")).unwrap();
    rest.split_once("```").unwrap().0
}

/// Links between the documents, and to pictures, lead somewhere.
#[test]
fn links_lead_to_files() {
    let mut checked = 0;
    let top = [
        "ARCHITECTURE.md",
        "BENCHMARKS.md",
        "CHANGELOG.md",
        "CLIENTS.md",
        "CONTRIBUTING.md",
        "FLEETS.md",
        "README.md",
        "SECURITY.md",
    ];
    let below = ["cross", "init", "tests"].map(files_below).concat();
    let pages = below.into_iter().filter(|name| name.ends_with(".md"));
    for name in top.map(str::to_owned).into_iter().chain(pages) {
        let place = root().join(&name);
        for link in text(&name).split("](").skip(1) {
            let link = link.split([')', '#']).next().unwrap();
            if !link.is_empty() && !link.contains(":") {
                assert!(
                    place.parent().unwrap().join(link).exists(),
                    "{name}: {link}"
                );
                checked += 1;
            }
        }
    }
    assert!(checked > 10, "only {checked} links were checked");
}

/// What it quotes of the server is what the server says.
#[test]
fn the_page_of_clients_has_the_server_s_words() {
    let mut code = String::new();
    for name in files_below("src").iter().filter(|it| it.ends_with(".rs")) {
        let lines: Vec<String> = text(name)
            .lines()
            .map(|line| line.trim_start().replace("\\\"", "\""))
            .collect();
        code += &lines.join("\n").replace("\\\n", "");
    }
    let page = text("CLIENTS.md");
    for words in [
        "The data connection must resume the control connection's TLS session",
        ": switch that on in the client",
        "as others did: tls-max = \"1.2\" helps",
        "resumed another session's TLS session",
        "The data connection ended without TLS close_notify",
        "send AUTH TLS first",
        "Too many sessions from your address",
        "not finished in time",
    ] {
        assert!(page.contains(words), "CLIENTS.md: {words}");
        assert!(code.contains(words), "the server does not say: {words}");
    }
}

/// What a reader copies out of it is what `make clients` and tests run.
#[test]
fn the_page_of_clients_has_code_that_runs() {
    let page = text("CLIENTS.md");
    let bare = |code: &str| -> String {
        let lines = code.lines().map(str::trim);
        let lines = lines.filter(|line| !line.starts_with("//") && !line.starts_with("\"\"\""));
        lines.flat_map(str::split_whitespace).collect()
    };
    for (language, program) in [
        ("python", "tests/clients/python/by_ftplib.py"),
        ("java", "tests/clients/java/Client.java"),
    ] {
        let (shown, tried) = (bare(block(&page, language)), bare(&text(program)));
        assert!(shown.len() > 100, "{shown}");
        assert!(tried.contains(&shown), "{shown}\n{tried}");
    }
    let perl = "IO::Socket::SSL::set_client_defaults(SSL_session_key => $host, SSL_version => \"TLSv1_2\")";
    assert!(page.contains(perl) && text("tests/clients/perl/client.pl").contains(perl));
    let user = "name = \"recorder\"";
    let whole = format!("{user}\npassword = \"*\"\nroot = \"/srv\"");
    let tables = block(&page, "toml").replace(user, &whole);
    parse(&format!("listen = [\"127.0.0.1:0\"]\n{tables}")).unwrap();
}

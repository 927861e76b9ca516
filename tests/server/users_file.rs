//! Passwords in a file of their own.

use std::fs;
use std::path::PathBuf;

use crate::harness::{configuration, ftpsd, Server, HASH, PASSWORD, USER};
use crate::programs::run;
use crate::reload::{edit, fails, hang_up, hash, path, reload, secured};

#[test]
fn the_users_file() {
    let edit_users = |server: &Server, users: &str| {
        fs::write(path(server, "users"), users).unwrap();
    };
    let users = [(USER, "\"full\""), ("bert", "\"full\"")];
    let mut anna = format!("{USER}:{HASH}:20000:0:99999:7:::\n");
    let server = Server::start_as(
        "users-file = \"users\"\nlogin-penalty = \"1ms\"",
        &users,
        |command| {
            let config = PathBuf::from(command.get_args().last().unwrap());
            let text = fs::read_to_string(&config).unwrap();
            fs::write(&config, text.replace(&format!("password = {HASH:?}\n"), "")).unwrap();
            let expired = format!("bert:{HASH}:::::::\ncarl:{HASH}\n");
            fs::write(config.with_file_name("users"), format!("{anna}{expired}")).unwrap();
        },
    );
    let mut client = secured(&server);
    fails(&mut client, "carl", PASSWORD);
    client.log_in("bert", PASSWORD);
    client.log_in(USER, PASSWORD);
    // bert's day has come, anna has another password.
    anna = format!("{USER}:{}\r\n", hash("new"));
    edit_users(&server, &format!("{anna}bert:{HASH}::::::20500:\n"));
    reload(&server);
    fails(&mut client, "bert", PASSWORD);
    server.wait_for_log(&["login", "user=bert", "result=expired directive=users-file"]);
    fails(&mut client, USER, PASSWORD);
    client.log_in(USER, "new");
    // Disabled at a reload, and enabled again: for new logins, and sessions go on.
    let mut refused = 0;
    for disabled in ["", "*", "!", &format!("!{HASH}"), &format!("*{HASH}")] {
        edit_users(&server, &format!("{anna}bert:{disabled}:::::::\n"));
        reload(&server);
        fails(&mut secured(&server), "bert", PASSWORD);
        refused += 1;
        server.wait_for_count("user=bert result=refused", refused);
        edit_users(&server, &format!("{anna}bert:{HASH}:::::::\n"));
        reload(&server);
        secured(&server).log_in("bert", PASSWORD);
        client.expect("PWD", 257);
    }
    for (users, reason) in [
        (anna.as_str(), "ftpsd.toml:"),
        ("bert\n", "users:1:1: expected a colon"),
        ("anna:*\n\nanna:*\n", "users:3:1: the user"),
    ] {
        edit_users(&server, users);
        hang_up(&server, "reload-failed");
        server.wait_for_log(&["reload-failed", reason]);
    }
    edit(&server, |text| text.replace("\"users\"", "\"/etc/shadow\""));
    hang_up(&server, "reload-failed");
    server.wait_for_log(&["reload-failed", "/etc/shadow"]);
    client.log_in(USER, "new");
}

#[test]
fn mistakes_in_the_users_file_at_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let top = "listen = [\"127.0.0.1:0\"]\nusers-file = \"users\"";
    let config = configuration(directory.path(), top, &[]);
    let check = |option: &str| run(ftpsd().args([option, "-f"]).arg(&config));
    for (users, reason) in [
        (format!("anna:{HASH}\nbert:$y$j9T$x$y\n"), "users:2:6: "),
        ("anna:*:::::::::\n".to_owned(), "users:1:15: "),
    ] {
        fs::write(directory.path().join("users"), users).unwrap();
        for option in ["-t", "-F"] {
            let finished = check(option);
            assert_eq!(finished.status.code(), Some(78));
            assert!(finished.stderr.contains(reason), "{}", finished.stderr);
        }
    }
    fs::write(directory.path().join("users"), "anna:*\n").unwrap();
    check("-t").would_start();
}

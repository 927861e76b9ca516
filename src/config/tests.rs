use super::storage::Storage;
use super::*;

const GOOD: &str = r#"listen = ["127.0.0.1:2121"]

[[certificate]]
chain = "c.pem"
key = "k.pem"

[[user]]
name = "anna"
password = "*"
root = "/srv"
"#;

fn check(text: &str, expected: &str) {
    let error = Config::parse(text, Path::new("f.toml")).unwrap_err();
    assert_eq!(error.to_string(), expected, "{text}");
}

/// `GOOD` with a line put before its first.
fn with(line: &str) -> String {
    format!("{line}\n{GOOD}")
}

/// A configuration read again may have another number than the server was started with.
#[test]
fn defaults_go_by_the_workers_that_there_are() {
    let counts = |text: &str, running: Option<u16>| {
        let config = Config::parse_for(text, Path::new("f"), running.map(Workers)).unwrap();
        [config.sessions_per_address, config.sessions_before_login].map(|it| it.unwrap().0)
    };
    let more = format!("workers = 100\n{GOOD}");
    assert_eq!(counts(&more, None), [50, 75]);
    assert_eq!(counts(&more, Some(16)), [8, 12]);
    let given = format!("sessions-per-address = 99\n{more}");
    assert_eq!(counts(&given, Some(16)), [99, 12]);
}

#[test]
fn defaults_are_those_of_the_manual() {
    let config = Config::parse(GOOD, Path::new("f.toml")).unwrap();
    assert_eq!(config.workers.0, 16);
    assert_eq!(
        config.passive_ports,
        PortRange {
            first: 50_000,
            last: 50_999
        }
    );
    assert_eq!(config.data_session, DataSession::Required);
    assert!(config.ascii && config.symlinks && !config.active_mode);
    assert_eq!(config.allow, Network::everywhere());
    assert!(config.deny.is_empty() && config.plain_from.is_empty());
    assert_eq!(config.sessions_per_address, Some(Count(8)));
    assert_eq!(config.sessions_before_login, Some(Count(12)));
    assert_eq!(config.login_penalty.duration().as_secs(), 5);
    let storage = Storage::of(&config, &config.user[0]);
    assert_eq!(storage, Storage::default());
    assert_eq!((storage.durable, storage.atomic), (true, true));
    assert_eq!((storage.file_mode, storage.keep_free), (None, 1 << 20));
    assert_eq!(config.partial_age.duration().as_secs(), 3 * 86_400);
    let seconds = [
        config.login_timeout,
        config.idle_timeout,
        config.tls_timeout,
        config.data_timeout,
        config.stall_timeout,
        config.drain_timeout,
    ]
    .map(|span| span.duration().as_secs());
    assert_eq!(seconds, [60, 300, 20, 20, 60, 30]);
}

#[test]
fn mistakes_have_a_place_and_an_expectation() {
    check(
        &with("workers = 0"),
        "f.toml:1:11: expected a number of threads from 1 to 1000",
    );
    check(
        &with("idle-timeout = \"5\""),
        "f.toml:1:16: expected a time span with its unit, such as \"500ms\", \"30s\", \"5m\", \
         \"2h\" or \"3d\"",
    );
    check(
        &with("data-session = \"maybe\""),
        "f.toml:1:16: expected \"required\" or \"preferred\"",
    );
    check(
        &GOOD.replace("root = \"/srv\"", "root = \"srv\""),
        "f.toml:10:8: expected an absolute path, beginning with /",
    );
    check(
        &GOOD.replace("password = \"*\"", "password = \"secret\""),
        "f.toml:9:12: expected a hash that begins with $2b$ (bcrypt), $5$ or $6$ (sha-crypt), as \
         `ftpsd --hash-password` prints it, or \"*\" for nobody",
    );
    check(
        &GOOD.replace(
            "root = \"/srv\"",
            "root = \"/srv\"\naccess = [\"read\", \"fly\"]",
        ),
        "f.toml:11:10: expected rights out of read, list, write, overwrite, append, delete, \
         rename, mkdir",
    );
}

#[test]
fn a_password_never_stands_in_an_error() {
    for (value, secret) in [
        ("\"secret\"", "secret"),
        ("secret", "secret"),
        ("[\"secret\"]", "secret"),
        ("4711", "4711"),
        ("-4711", "4711"),
        ("0x1267", "4711"),
        ("9223372036854775808", "9223"),
        ("184467440737095516160", "18446"),
        ("47.11", "47.11"),
        ("true", "true"),
        ("1947-11-01", "1947"),
    ] {
        let text = GOOD.replace("password = \"*\"", &format!("password = {value}"));
        let error = Config::parse(&text, Path::new("f.toml")).unwrap_err();
        assert!(!error.to_string().contains(secret), "{error}");
    }
}

#[test]
fn a_worker_that_is_kept_free_is_not_the_only_one() {
    let reserved = "reserve-for = [\"192.0.2.1\"]";
    Config::parse(&with(reserved), Path::new("f")).unwrap();
    check(
        &with(&format!("{reserved}\nworkers = 1")),
        "f.toml:1:16: reserve-for keeps one worker free: expected workers = 2 or more",
    );
}

#[test]
fn unknown_keys_are_refused_by_name() {
    check(
        &with("open-for = \"2\""),
        "f.toml:1:12: expected a time span from \"1s\" up, with its unit, such as \"45m\" or \"2h\"",
    );
    check(
        &with("status-file = \"run/ftpsd.prom\""),
        "f.toml:1:15: expected an absolute path of a file, such as \"/run/ftpsd/ftpsd.prom\"",
    );
    check(
        &with("deny = [{ a = 1 }]"),
        "f.toml:1:9: expected a string instead of this table",
    );
    check(
        &GOOD.replace("key = ", "kee = "),
        "f.toml:5:1: unknown key `kee`: expected one of chain, key",
    );
    check(
        &GOOD.replace(
            "root = \"/srv\"",
            "root = \"/srv\"\nshare.logs = { way = 1 }",
        ),
        "f.toml:11:16: unknown key `way`: expected one of path, access, require-mount",
    );
}

#[test]
fn a_user_may_keep_files_another_way() {
    let text = GOOD.replace(
        "root = \"/srv\"",
        "root = \"/srv\"\ndurable = true\natomic = false\nfile-mode = \"0640\"\n\
         share.logs = { path = \"/var/log\" }\nshare.\"u s b\" = { path = \"/mnt\", access = \
         [\"read\"], require-mount = true }",
    );
    let text = format!("durable = false\nfile-mode = \"600\"\nkeep-free = 4096\n{text}");
    let config = Config::parse(&text, Path::new("f")).unwrap();
    let expected = Storage {
        symlinks: true,
        durable: true,
        atomic: false,
        file_mode: Some(0o640),
        keep_free: 4096,
    };
    let user = &config.user[0];
    assert_eq!(Storage::of(&config, user), expected);
    let names: Vec<&str> = user.share.keys().map(|name| &name.get_ref()[..]).collect();
    assert_eq!(names, ["logs", "u s b"]);
    let mounts: Vec<bool> = user
        .share
        .values()
        .map(|share| share.require_mount)
        .collect();
    assert_eq!(mounts, [false, true]);
}

#[test]
fn mistakes_in_how_files_are_kept() {
    for (line, expected) in [
        ("keep-free = \"1MB\"", "f.toml:1:13: expected a byte size, such as \"512KiB\", \"1MiB\", \"2GiB\", or a number of bytes"),
        ("keep-free = -1", "f.toml:1:13: expected a byte size, such as \"512KiB\", \"1MiB\", \"2GiB\", or a number of bytes"),
        ("file-mode = \"0440\"", "f.toml:1:13: expected a mode in octal from \"0600\" to \"0777\" that lets the owner read and write"),
    ] {
        check(&with(line), expected);
    }
    let share = |line: &str| GOOD.replace("root = \"/srv\"", &format!("root = \"/srv\"\n{line}"));
    check(
        &share("share.\"a/b\" = { path = \"/\" }"),
        "f.toml:11:7: expected a share to have the name of a directory, without slashes",
    );
    check(
        &share("share.logs = { path = \"var\" }"),
        "f.toml:11:23: expected an absolute path, beginning with /",
    );
}

#[test]
fn broken_toml_has_a_place() {
    let error = Config::parse("listen = [\n", Path::new("f.toml")).unwrap_err();
    assert!(error.place.is_some(), "{error}");
}

#[test]
fn what_is_missing_is_named() {
    check(
        &GOOD.replace("listen = [\"127.0.0.1:2121\"]\n", ""),
        "f.toml: nothing to listen on: expected listen = [\"0.0.0.0:21\"] or listen-implicit = \
         [\"0.0.0.0:990\"]",
    );
    check(
        &GOOD.replace("root = \"/srv\"\n", ""),
        "f.toml:7:1: missing field `root`",
    );
}

#[test]
fn addresses_are_unique_and_whole() {
    check(
        &with("listen-implicit = [\"127.0.0.1:2990\", \"127.0.0.1:2121\"]"),
        "f.toml:1:38: this address stands here twice: expected each port with one kind of TLS",
    );
    check(
        &with("listen-implicit = [\"localhost:990\"]"),
        "f.toml:1:20: expected an address with its port, such as \"0.0.0.0:21\" or \"[::]:21\"",
    );
}

#[test]
fn names_are_unique() {
    let twice = format!("{GOOD}\n[[user]]\nname = \"anna\"\npassword = \"*\"\nroot = \"/x\"\n");
    check(
        &twice,
        "f.toml:13:8: the user \"anna\" stands here twice: expected each name once",
    );
}

#[test]
fn columns_count_characters() {
    assert_eq!(place("a\nüb = ", 4), (2, 2));
}

/// `GOOD` with a second user and a users file, both in a directory of their own.
fn with_users_file(second: &str, users: &str) -> Result<Config, String> {
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "users-file = \"users\"\n{GOOD}\n[[user]]\nname = \"bert\"\nroot = \"/x\"\n{second}"
    );
    let file = directory.path().join("f.toml");
    std::fs::write(&file, text).unwrap();
    std::fs::write(directory.path().join("users"), users).unwrap();
    let place = format!("{}/", directory.path().display());
    Config::load(&file, None).map_err(|error| error.to_string().replace(&place, ""))
}

#[test]
fn the_users_file_gives_passwords_to_those_without() {
    let hash = format!("$6$salt${}", "a".repeat(86));
    // Who has no table is not there.
    let users = format!("carl:*\nbert:{hash}::::::20600:\n");
    let config = with_users_file("", &users).unwrap();
    let [anna, bert] = &config.user[..] else {
        panic!("two users");
    };
    assert_eq!(anna.password, Some(PasswordHash::Disabled));
    assert_eq!(anna.expires, None);
    assert_eq!(bert.password, Some(PasswordHash::ShaCrypt(hash)));
    assert_eq!(bert.expires, Some(20_600));
}

#[test]
fn users_are_in_one_of_the_two_files() {
    for (second, users, expected) in [
        (
            "",
            "anne:*\n",
            "f.toml:14:8: this user has no password: expected password = \"...\" here, or a line \
             for \"bert\" in users",
        ),
        (
            "",
            "bert:*\nanna:*\n",
            "users:2:1: the user \"anna\" has a password in f.toml: expected one of the two",
        ),
        (
            "password = \"*\"\n",
            "bert:*\n",
            "users:1:1: the user \"bert\" has a password in f.toml: expected one of the two",
        ),
    ] {
        assert_eq!(with_users_file(second, users).unwrap_err(), expected);
    }
    let error = with_users_file("expires = 1\n", "bert:*\n").unwrap_err();
    assert!(error.contains("unknown key `expires`"), "{error}");
}

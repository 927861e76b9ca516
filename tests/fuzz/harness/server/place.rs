//! What a session runs in: everything a server has but the thread that accepts.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, RwLock};
use std::time::{Duration, Instant};

use ftpsd::auth::{Accounts, Hashing};
use ftpsd::config::Config;
use ftpsd::control;
use ftpsd::limits::{Limits, Slot};
use ftpsd::log::{Destination, Level, Log};
use ftpsd::pi::Service;
use ftpsd::proto::command::Command;
use ftpsd::settings::Settings;
use ftpsd::signals::{Stop, Stopper};
use ftpsd::sockets;
use ftpsd::tls::{make_certificate, Certificates, Clients, Tls};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};

use super::super::line::lines_at_once;

/// Nobody knows what this is the hash of.
const HASH: &str = "$2b$04$abcdefghijklmnopqrstuuFcV8WPKEefLKdOWfX8pW1yTVya21P7b";

/// A server's inside, for one session.
pub(super) struct Place {
    pub(super) service: Service,
    /// The user's root, which nobody ever sees.
    root: PathBuf,
    watch: OwnedFd,
    lines: Arc<Kept>,
    _stopper: Stopper,
}

/// The lines of the log.
#[derive(Default)]
struct Kept(Mutex<Vec<String>>);

impl Destination for Kept {
    fn write(&self, _: Level, line: &str) {
        self.0.lock().expect("no panic").push(line.to_owned());
    }
}

impl Place {
    pub(super) fn new(plain: bool) -> Place {
        let root = std::env::temp_dir().join(format!("ftpsd-fuzz-{}", std::process::id()));
        std::fs::create_dir(&root).expect("a directory");
        let watch = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).expect("inotify");
        inotify::add_watch(&watch, &root, WatchFlags::ALL_EVENTS).expect("a watch");
        let (stopper, stop): (Stopper, Stop) = Stopper::new().expect("pipes");
        let lines = Arc::new(Kept::default());
        let service = Service {
            shared_ports: None,
            listening: vec![listener().local_addr().expect("an address").port()],
            settings: RwLock::new(settings(plain, &root)),
            limits: Limits::new(1),
            hashing: Hashing::default(),
            digesting: Default::default(),
            counters: Default::default(),
            stop,
            log: Log::new(Arc::clone(&lines) as Arc<dyn Destination>),
        };
        Place {
            service,
            root,
            watch,
            lines,
            _stopper: stopper,
        }
    }

    /// A connection, and the server's end of it.
    pub(super) fn connect(&self) -> (TcpStream, (TcpStream, SocketAddr)) {
        let listener = listener();
        let address = listener.local_addr().expect("an address");
        let socket = TcpStream::connect(address).expect("a connection");
        socket.set_nodelay(true).expect("an option");
        let patience = Some(Duration::from_secs(20));
        socket.set_read_timeout(patience).expect("an option");
        socket.set_write_timeout(patience).expect("an option");
        // The listener does not wait.
        let accepted = loop {
            match sockets::accept(listener) {
                Ok(accepted) => break accepted,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    std::thread::yield_now();
                }
                Err(error) => panic!("no connection: {error}"),
            }
        };
        (socket, accepted)
    }

    pub(super) fn slot(&self) -> Slot {
        let settings = self.service.settings();
        let here = [127, 0, 0, 1].into();
        let admitted = self
            .service
            .limits
            .admit(&settings.config, here, Instant::now());
        admitted.expect("a free place")
    }

    /// Nobody looked at the user's root.
    pub(super) fn is_untouched(&self) {
        let mut events = [0; 1024];
        let seen = rustix::io::read(&self.watch, &mut events);
        assert_eq!(seen, Err(rustix::io::Errno::AGAIN), "the root was touched");
        let totals = self.service.counters.totals().clone();
        let work = [
            totals.logins.good(),
            totals.plain_logins,
            totals.retrieved.all(),
            totals.stored.all(),
            totals.listed.all(),
        ];
        assert_eq!(work, [0; 5], "{totals:?}");
    }

    /// The next session has its place.
    pub(super) fn is_left(&self) {
        let running = self.service.limits.running();
        assert_eq!(
            (running.sessions, running.before_login),
            (0, 0),
            "a slot is left"
        );
    }

    /// What was logged.
    pub(super) fn log(&self) -> Vec<String> {
        self.lines.0.lock().expect("no panic").clone()
    }

    /// From the begin to the end, each event in one line of printable text, without a password.
    pub(super) fn log_is_sound(&self, sent: &[u8]) {
        let lines = self.lines.0.lock().expect("no panic");
        let first = lines.first().expect("a first line");
        let last = lines.last().expect("a last line");
        assert!(
            first.starts_with("connected session=1 peer=127.0.0.1 "),
            "{first}"
        );
        assert!(
            last.starts_with("closed session=1 peer=127.0.0.1 reason="),
            "{last}"
        );
        for line in lines.iter() {
            assert!(
                line.bytes().all(|byte| (b' '..=b'~').contains(&byte)),
                "{line}"
            );
            assert!(
                !line.starts_with("login ") || !line.contains("result=complete"),
                "{line}"
            );
        }
        let commands: Vec<Vec<u8>> = lines_at_once(sent)
            .into_iter()
            .filter_map(|line| match line {
                ftpsd::proto::line::Line::Complete(line) => Some(line),
                _ => None,
            })
            .collect();
        for command in &commands {
            let Ok(Command::Pass(password)) = Command::parse(command) else {
                continue;
            };
            let text = String::from_utf8_lossy(password.expose()).into_owned();
            // What is said elsewhere too, as a name, may be logged.
            let says = |command: &&Vec<u8>| String::from_utf8_lossy(command).contains(&text);
            let once = commands.iter().filter(says).count() == 1;
            // With "=" in it, it may be the log's own words.
            if text.len() >= 8 && once && !text.contains('=') {
                assert!(
                    lines.iter().all(|line| !line.contains(&text)),
                    "{text} in the log"
                );
            }
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir(&self.root);
    }
}

/// The listener that all sessions come by.
fn listener() -> &'static TcpListener {
    static LISTENER: OnceLock<TcpListener> = OnceLock::new();
    LISTENER.get_or_init(|| {
        // Programs in Rust have it so from the start, but libFuzzer's main is none.
        let pipe = signal_hook::consts::SIGPIPE;
        signal_hook::flag::register(pipe, Arc::default()).expect("a signal");
        let any = ([127, 0, 0, 1], 0).into();
        let listener = sockets::listen(any).expect("a port");
        control::prepare(&listener).expect("options");
        listener
    })
}

/// The server's certificate with its key.
pub(super) fn certificate() -> &'static str {
    static CERTIFICATE: OnceLock<String> = OnceLock::new();
    CERTIFICATE.get_or_init(|| make_certificate("localhost", &[]).expect("a certificate"))
}

fn settings(plain: bool, root: &Path) -> Arc<Settings> {
    static SETTINGS: OnceLock<[Arc<Settings>; 2]> = OnceLock::new();
    let both = SETTINGS.get_or_init(|| {
        ["", "plain-from = [\"127.0.0.1\"]\n"].map(|plain| {
            let text = format!(
                "listen = [\"127.0.0.1:0\"]\nlogin-timeout = \"10s\"\ntls-timeout = \"10s\"\n\
             workers = 1\n{plain}[[user]]\nname = \"anna\"\npassword = \"{HASH}\"\nroot = \"{}\"\n",
                root.display()
            );
            let config = Config::parse(&text, Path::new("f")).expect("a configuration");
            let pem = certificate().as_bytes();
            let certificates = Certificates::of_one(pem, Path::new("f"), false);
            let certificates = Arc::new(certificates.expect("a certificate"));
            Arc::new(Settings {
                accounts: Accounts::new(&config),
                tls: Tls::new(Arc::clone(&certificates)).expect("TLS"),
                certificates,
                clients: Clients::unasked(),
                config,
            })
        })
    });
    Arc::clone(&both[usize::from(plain)])
}

/// How many sockets the process has open, the listener being among them.
pub(super) fn sockets() -> usize {
    listener();
    let descriptors = std::fs::read_dir("/proc/self/fd").expect("/proc");
    let is_socket = |path: PathBuf| {
        std::fs::read_link(path).is_ok_and(|to| to.to_string_lossy().starts_with("socket:"))
    };
    let paths = descriptors.filter_map(|entry| Some(entry.ok()?.path()));
    paths.filter(|path| is_socket(path.clone())).count()
}

//! What `ftpsd -t` says the server needs at most, held against what it takes.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;

use crate::client::Client;
use crate::harness::{ftpsd, Server, USER};
use crate::programs::run;
use crate::tls::{TlsClient, Version, VERSIONS};

const WORKERS: usize = 4;

/// The lines of `ftpsd -t` that have a name and a number each.
fn ceilings(server: &Server) -> impl Fn(&str) -> u64 {
    let config = server.certificate().with_file_name("ftpsd.toml");
    let text = run(ftpsd().args(["-t", "-f"]).arg(config)).would_start();
    let last = text.lines().last().unwrap();
    assert!(last.starts_with("The configuration is good"), "{text}");
    move |name| {
        let value = text.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            (key == name).then(|| value.parse().unwrap())
        });
        value.unwrap_or_else(|| panic!("no {name} in {text}"))
    }
}

/// Looks at the server's descriptors all the time, in a thread.
struct Watch {
    most: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Watch {
    fn start(server: &Server) -> Watch {
        let (most, stop) = (
            Arc::new(AtomicUsize::new(0)),
            Arc::new(AtomicBool::new(false)),
        );
        let (seen, end, directory) = (most.clone(), stop.clone(), server.descriptors());
        let thread = std::thread::spawn(move || {
            while !end.load(Ordering::Relaxed) {
                let count = fs::read_dir(&directory).map_or(0, Iterator::count);
                seen.fetch_max(count, Ordering::Relaxed);
            }
        });
        Watch {
            most,
            stop,
            thread: Some(thread),
        }
    }

    fn most(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap();
        self.most.load(Ordering::Relaxed) as u64
    }
}

/// A session in a directory of its own, of the root or of a share, with everything that takes
/// descriptors.
fn exercise(server: &Server, number: usize) {
    // In TLS 1.3 this client spends a ticket on each data connection, and uploads bring none.
    let mut client = Client::ready(server, Version::V12);
    client.expect(["CWD /", "CWD /usb"][number % 2], 250);
    client.expect(format!("MKD {number}"), 257);
    client.expect(format!("CWD {number}"), 250);
    client.expect("MKD a", 257);
    client.expect("MKD b", 257);
    for round in 0..8 {
        client.store(format!("STOR a/file{round}"), b"content");
        client.store(format!("APPE a/file{round}"), b" and more");
        // With a passive port open, and a connection that came before its command.
        let address = client.passive();
        let mut early = client.connect(address);
        client.expect(format!("RNFR a/file{round}"), 350);
        client.expect(format!("RNTO b/file{round}"), 250);
        client.expect("LIST b", 150);
        early.handshake();
        assert!(!early.read_to_end().0.is_empty());
        early.close();
        client.expect_reply(226);
        // A partial upload is renamed over none.
        let mut data = client.start_transfer("STOR a/cut");
        data.send(b"part");
        drop(data);
        client.expect_reply(426);
        client.expect("RNFR a/cut", 350);
        client.expect(format!("RNTO b/cut{round}"), 250);
        client.retrieve("MLSD b");
        client.retrieve(format!("RETR b/file{round}"));
        client.expect(format!("DELE b/file{round}"), 250);
    }
    client.expect("QUIT", 221);
}

#[test]
fn no_more_descriptors_and_threads_than_announced() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path();
    let share = format!("\"full\"\nshare = {{ usb = {{ path = {path:?}, access = \"full\" }} }}");
    let server = Server::start_with(&format!("workers = {WORKERS}"), &[(USER, &share)]);
    let ceiling = ceilings(&server);
    let idle = server.usage().descriptors as u64;
    let watch = Watch::start(&server);
    std::thread::scope(|scope| {
        for number in 0..WORKERS {
            let server = &server;
            scope.spawn(move || exercise(server, number));
        }
    });
    let most = watch.most();
    // Three for each session at least: it must have been seen at work.
    assert!(most >= idle + 3 * WORKERS as u64, "{most} after {idle}");
    assert_eq!(server.usage().threads, ceiling("threads"));
    let announced = ceiling("descriptors");
    println!("descriptors: {idle} idle, {most} seen, {announced} announced");
    assert!(most <= announced, "{most} seen, {announced} announced");
}

#[test]
fn no_more_memory_than_announced() {
    let server = Server::start(&format!("workers = {WORKERS}"));
    let ceiling = ceilings(&server);
    // More than the sockets hold, so that it is under way until it is read.
    let size = 64 << 20;
    fs::write(server.file("large"), vec![b'\n'; size]).unwrap();
    let mut clients: Vec<Client> = (0..WORKERS)
        .map(|number| Client::ready(&server, VERSIONS[number % 2]))
        .collect();
    for client in &mut clients {
        client.expect("TYPE A", 200);
        client.retrieve("LIST");
    }
    let (idle, announced) = (server.usage().private_kib, ceiling("memory-idle-kib"));
    assert!(idle <= announced, "{idle} KiB seen, {announced} announced");

    let mut downloads: Vec<TlsClient> = clients
        .iter_mut()
        .map(|client| client.start_transfer("RETR large"))
        .collect();
    let mut first = Vec::new();
    for data in &mut downloads {
        first.clear();
        data.receive(&mut first).unwrap();
    }
    let (busy, announced) = (server.usage().private_kib, ceiling("memory-transfer-kib"));
    assert!(busy <= announced, "{busy} KiB seen, {announced} announced");
    println!("memory: {idle} KiB idle, {busy} KiB in transfer, {announced} announced");
    assert!(busy > idle, "{busy} KiB after {idle}");
    for (client, data) in clients.iter_mut().zip(downloads) {
        drop(data);
        client.expect_reply(426);
        client.store("STOR other", &vec![b'\n'; 1 << 20]);
        client.retrieve("RETR other");
        client.expect("HASH other", 213);
    }
    // Not what was announced of sessions that had no transfer yet: the allocator keeps some.
    let left = server.usage().private_kib;
    assert!(left <= announced, "{left} KiB left, {announced} announced");
}

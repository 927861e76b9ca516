//! `open-for` and the option -w: a server that stops by itself.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::background::Setup;
use crate::client::Client;
use crate::harness::{emulated, ftpsd, Family, Port, Server, PATIENCE, USER};
use crate::programs::run;
use crate::reload::{edit, reload};
use crate::tls::{End, Version};

/// A server with these lines and the option -w.
fn start(top: &str, span: &str) -> Server {
    Server::start_as(top, &[(USER, "\"full\"")], |command| {
        command.args(["-w", span]);
    })
}

/// Seconds in which a client has certainly begun.
fn window() -> u64 {
    if emulated() {
        30
    } else {
        5
    }
}

#[test]
fn transfers_finish_when_it_is_over_and_nobody_comes_in() {
    let (begun, seconds) = (Instant::now(), window());
    let top = "drain-timeout = \"1h\"\nstall-timeout = \"1h\"";
    let mut server = start(top, &format!("{seconds}s"));
    let line = server.wait_for_log(&["notice: window "]);
    assert_eq!(line, format!("notice: window seconds={seconds} by=-w"));
    let mut idle = Client::ready(&server, Version::V12);
    let mut client = Client::ready(&server, Version::V13);
    let mut data = client.start_transfer("STOR file");
    data.send(b"before ");
    let line = server.wait_for_log(&["window-over"]);
    assert!(begun.elapsed() >= Duration::from_secs(seconds));
    assert_eq!(line, format!("notice: window-over seconds={seconds} by=-w"));
    idle.expect_reply(421);
    assert_eq!(idle.end(), End::CloseNotify);
    let address = server.address(Port::Explicit, Family::V4);
    let deadline = Instant::now() + PATIENCE;
    // The listeners close a moment after the log says so.
    while TcpStream::connect(address).is_ok() {
        assert!(Instant::now() < deadline, "{address} still listens");
    }
    data.send(b"and after");
    data.close();
    client.expect_reply(226);
    client.expect_reply(421);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    let text = std::fs::read(server.file("file")).unwrap();
    assert_eq!(text, b"before and after");
    let order = ["window ", "window-over ", "stopping\n", "stopped\n"];
    let log = server.log();
    let places = order.map(|event| log.find(&format!("notice: {event}")).unwrap());
    assert!(places.is_sorted(), "{log}");
}

/// The end of the window is no signal: the first one after it leaves transfers their time too, as whoever
/// stops or restarts the server then expects, and the second one cuts them.
#[test]
fn one_signal_after_it_does_not_cut_transfers() {
    let top = "drain-timeout = \"1h\"\nstall-timeout = \"1h\"";
    let mut server = start(top, &format!("{}s", window()));
    let mut clients = [(); 2].map(|()| Client::ready(&server, Version::V13));
    let names = ["STOR one", "STOR two"];
    let [mut one, mut two] = [0, 1].map(|index| clients[index].start_transfer(names[index]));
    one.send(b"before ");
    two.send(b"content");
    server.wait_for_log(&["notice: stopping"]);
    server.signal(Signal::TERM);
    // Signals are heard in the turn of the second one at the latest.
    for count in 1..=2 {
        server.signal(Signal::USR1);
        server.wait_for_count("notice: counters ", count);
    }
    one.send(b"and after");
    one.close();
    clients[0].expect_reply(226);
    server.signal(Signal::TERM);
    clients[1].expect_reply(426);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    let text = std::fs::read(server.file("one")).unwrap();
    assert_eq!(text, b"before and after");
}

/// A reload neither puts it off nor takes it away, and transfers have no longer than they have at a
/// signal.
#[test]
fn a_reload_does_not_put_it_off() {
    let seconds = window();
    let mut server = Server::start(&format!(
        "open-for = \"{seconds}s\"\ndrain-timeout = \"200ms\""
    ));
    let mut client = Client::ready(&server, Version::V13);
    let mut data = client.start_transfer("STOR file");
    data.send(b"content");
    let first = format!("open-for = \"{seconds}s\"");
    for (old, new) in [(&first[..], "open-for = \"9h\""), ("open-for = \"9h\"", "")] {
        edit(&server, |text| text.replace(old, new));
        reload(&server);
        server.wait_for_log(&["warning: needs-restart key=open-for"]);
    }
    let over = format!("notice: window-over seconds={seconds} by=open-for");
    server.wait_for_log(&[&over]);
    client.expect_reply(426);
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert_eq!(
        server.log().matches("needs-restart key=open-for").count(),
        2
    );
}

/// The option goes before the key, both ways.
#[test]
fn the_option_decides() {
    let server = start("open-for = \"1s\"", "2h");
    server.wait_for_log(&["notice: window seconds=7200 by=-w"]);
    std::thread::sleep(Duration::from_millis(1500));
    Client::ready(&server, Version::V13).expect("QUIT", 221);
    assert!(!server.log().contains("window-over"));
    let mut server = start("open-for = \"2h\"", "1s");
    assert_eq!(server.wait_for_exit().code(), Some(0));
    assert!(server.log().contains("window-over seconds=1 by=-w"));
}

/// No signal has to come for it, and no connection.
#[test]
fn a_server_in_the_background_ends_and_takes_its_pid_file_along() {
    let setup = Setup::new(2121, "");
    let (background, errors) = setup.start(ftpsd().args(["-w", "1s"]));
    assert!(!errors.contains("ftpsd: "), "{errors}");
    background.ends();
    assert!(!setup.pid_file().exists());
}

#[test]
fn what_is_no_span_is_refused() {
    let setup = Setup::new(2121, "");
    let expected = "expected a time span from \"1s\" up";
    for span in [
        "", "2", "0h", "10ms", "2 h", "-2h", "400d", "2h\n", "x\u{1b}",
    ] {
        for option in ["-F", "-t"] {
            let mut command = ftpsd();
            command.args([option, &format!("-w{span}")]);
            if span.is_empty() {
                setup.is_refused(command.arg("-w"), 64, &["-w"]);
            } else {
                setup.is_refused(&mut command, 64, &["-w \"", expected]);
            }
        }
        setup.replace("pid-file", &format!("open-for = {span:?}\npid-file"));
        if !span.contains('\u{1b}') {
            setup.is_refused(ftpsd().arg("-t"), 78, &[":3:12: ", expected]);
        }
        setup.replace(&format!("open-for = {span:?}\npid-file"), "pid-file");
    }
    let twice = ["-w", "1h", "-w", "2h"];
    setup.is_refused(ftpsd().arg("-F").args(twice), 64, &["-h"]);
    let good = run(ftpsd().args(["-t", "-w", "2h", "-f"]).arg(&setup.config)).would_start();
    assert!(good.contains("The configuration is good"), "{good}");
}

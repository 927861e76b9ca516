//! The whole server before a login.

mod client;
mod expected;
mod place;

use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use ftpsd::pi::{self, Connection, Port};

use super::line::lines_at_once;
use super::reply::read;
use client::{hello, Secured};
use expected::Expected;
use place::Place;

/// More than the server ever needs; no wait of its own is that long here.
const LONGEST: Duration = Duration::from_secs(30);

/// A session of somebody who does not log in. The first byte chooses: its lowest two bits how the
/// client speaks (in clear text, over TLS on an implicit port, over TLS after AUTH TLS, or with
/// bytes of its own where the handshake should be), and the others whether clear text is
/// permitted, which version of TLS, which port, and how much goes out at once. The rest is what
/// the client sends, after which it ends the connection and reads to the end.
///
/// Each command has the reply that the protocol core decides, and no reply is anything else. No
/// file or directory is touched, nobody is logged in, no password is in the log. The session ends,
/// its thread does, and its descriptors and its slot are free.
pub fn server(input: &[u8]) {
    let Some((&choice, sent)) = input.split_first() else {
        return;
    };
    // Descriptors are counted, and there is one place.
    static ALONE: Mutex<()> = Mutex::new(());
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let choice = Choice::of(choice);
    let before = place::sockets();
    let place = Place::new(choice.plain);
    let (socket, (accepted, peer)) = place.connect();
    let began = Instant::now();
    let received = std::thread::scope(|scope| {
        let (service, slot) = (&place.service, place.slot());
        let connection = Box::new(Connection {
            socket: accepted,
            peer,
            port: choice.port,
            number: 1,
            slot,
        });
        let session = scope.spawn(move || pi::serve(connection, service));
        let received = converse(choice, socket, sent);
        while !session.is_finished() {
            assert!(began.elapsed() < LONGEST, "the session does not end");
            std::thread::sleep(Duration::from_micros(50));
        }
        received
    });
    assert!(began.elapsed() < LONGEST, "it took {:?}", began.elapsed());
    check(choice, sent, &received, &place);
    place.is_untouched();
    place.is_left();
    place.log_is_sound(sent);
    drop(place);
    assert_eq!(place::sockets(), before, "a socket is left");
}

/// How the client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Clear,
    /// A real handshake, then everything over TLS.
    Secured,
    /// What is sent stands where the handshake should.
    NoHandshake,
    /// What is sent says where bytes of a real ClientHello differ: pairs of place and value.
    Damaged,
}

#[derive(Debug, Clone, Copy)]
struct Choice {
    way: Way,
    port: Port,
    plain: bool,
    tls13: bool,
    /// Bytes that go out at once.
    piece: usize,
}

impl Choice {
    fn of(byte: u8) -> Choice {
        let bit = |number: u8| byte >> number & 1 == 1;
        let (way, port) = match (byte & 3, bit(4), bit(5)) {
            (0, _, _) => (Way::Clear, Port::Explicit),
            (1, _, _) => (Way::Secured, Port::Implicit),
            (2, _, _) => (Way::Secured, Port::Explicit),
            (_, implicit, damaged) => (
                if damaged {
                    Way::Damaged
                } else {
                    Way::NoHandshake
                },
                if implicit {
                    Port::Implicit
                } else {
                    Port::Explicit
                },
            ),
        };
        Choice {
            way,
            port,
            plain: bit(2),
            tls13: bit(3),
            piece: [1 << 16, 1, 7, 100][usize::from(byte >> 6)],
        }
    }
}

/// What came in clear text, and what came over TLS.
struct ReceivedBytes {
    clear: Vec<u8>,
    secured: Vec<u8>,
    /// The end was a reset.
    reset: bool,
}

fn converse(choice: Choice, mut socket: TcpStream, sent: &[u8]) -> ReceivedBytes {
    let mut clear = Vec::new();
    if choice.port == Port::Explicit && choice.way != Way::Clear {
        clear = client::reply(&mut socket);
        client::send(&mut socket, b"AUTH TLS\r\n");
        clear.extend(client::reply(&mut socket));
    }
    let (mut secured, reset) = (Vec::new(), &mut false);
    match choice.way {
        Way::Secured => {
            let mut tls = Secured::new(socket, choice.tls13);
            for piece in sent.chunks(choice.piece) {
                tls.send(piece);
            }
            (secured, *reset) = tls.finish();
        }
        way @ (Way::Clear | Way::NoHandshake | Way::Damaged) => {
            let sent = if way == Way::Damaged {
                hello(choice.tls13, sent)
            } else {
                sent.to_vec()
            };
            for piece in sent.chunks(choice.piece) {
                // The server may have hung up.
                *reset |= socket.write_all(piece).is_err();
            }
            let _ = socket.shutdown(Shutdown::Write);
            let (bytes, end) = client::rest(&mut socket);
            clear.extend(bytes);
            *reset |= end;
        }
    }
    let reset = *reset;
    ReceivedBytes {
        clear,
        secured,
        reset,
    }
}

fn check(choice: Choice, sent: &[u8], received: &ReceivedBytes, place: &Place) {
    let codes = |bytes: &[u8]| {
        read(bytes)
            .iter()
            .map(|(code, _)| *code)
            .collect::<Vec<_>>()
    };
    let mut clear = received.clear.clone();
    if matches!(choice.way, Way::NoHandshake | Way::Damaged) {
        // What follows is TLS, an alert or a ServerHello, or nothing.
        let before: usize = if choice.port == Port::Explicit { 2 } else { 0 };
        let ends = clear
            .windows(2)
            .enumerate()
            .filter(|(_, pair)| pair == b"\r\n");
        let end = ends
            .map(|(at, _)| at + 2)
            .nth(before.wrapping_sub(1))
            .unwrap_or(0);
        let alert = clear.split_off(end);
        assert!(alert.is_empty() || matches!(alert[0], 20..=23), "{alert:?}");
        assert_eq!(codes(&clear), [220, 234][..before]);
        return;
    }
    // After AUTH TLS the answer to what is no handshake is an alert; no line of a reply begins so.
    let alert = clear.windows(3).position(|bytes| bytes == b"\r\n\x15");
    clear.truncate(alert.map_or(clear.len(), |at| at + 2));
    let (greeted, found) = match (choice.way, choice.port) {
        (Way::Clear, _) => (0, codes(&clear)),
        (_, Port::Implicit) => (0, codes(&received.secured)),
        (_, Port::Explicit) => (1, codes(&received.secured)),
    };
    if greeted == 1 {
        assert_eq!(codes(&clear), [220, 234]);
    }
    let lines = lines_at_once(sent);
    let expected = Expected::of(choice, &lines);
    assert!(alert.is_none() || choice.way == Way::Clear && expected.closes);
    assert!(
        found.iter().all(|code| !matches!(code, 230 | 232)),
        "{found:?}"
    );
    if received.reset {
        // Who goes on sending to a server that has closed may miss its last words.
        assert!(expected.closes, "{lines:?}: {:#?}", place.log());
        assert!(expected.codes.starts_with(&found) || found.starts_with(&expected.codes));
        return;
    }
    let (found, more) = found.split_at(expected.codes.len().min(found.len()));
    assert_eq!(found, expected.codes, "{lines:?}: {:#?}", place.log());
    assert!(expected.may_follow.contains(&more), "{more:?} after all");
}

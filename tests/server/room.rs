//! No room for an upload, be it the file system that is full or a limit: a reply that says so, and
//! nothing lost of what was there.

use crate::client::Client;
use crate::content::content;
use crate::gaps::wrap;
use crate::harness::{invocation, unprivileged, Server, USER};
use crate::tls::VERSIONS;

/// An upload that may not be whole; the code of the last reply.
fn try_to_store(client: &mut Client, command: &str, bytes: &[u8]) -> u16 {
    let address = client.passive();
    let mut data = client.connect(address);
    let reply = client.command(command);
    if reply.code != 150 {
        return reply.code;
    }
    data.handshake();
    // The server may give up in the middle.
    let _ = data.try_send(bytes);
    let _ = data.try_close();
    client.reply().code
}

/// Uploads that are more than there is room for, whatever the room: refused with this code, what
/// was there before is still there, and less than that goes on to work.
fn too_much(server: &Server, room: usize, code: u16, error: &str) {
    let old = content(82, room / 10);
    let much = content(83, room + room / 2);
    for version in VERSIONS {
        let mut client = Client::ready(server, version);
        client.store("STOR old", &old);
        for command in ["STOR new", "STOR old", "APPE old"] {
            assert_eq!(try_to_store(&mut client, command, &much), code, "{command}");
            // What came of it would be in the way of the next.
            client.expect("RNFR old", 350);
            client.expect("RNTO kept", 250);
            client.command("DELE new");
            client.command("DELE old");
            client = Client::ready(server, version);
            let kept = client.retrieve("RETR kept");
            let appended = command.starts_with("APPE") && much.starts_with(&kept[old.len()..]);
            assert!(
                kept == old || (appended && kept.starts_with(&old)),
                "{command}"
            );
            client.passive();
            client.expect("RETR new", 550);
            client.store("STOR old", &old);
            assert!(client.retrieve("RETR old") == old);
        }
        client.expect("DELE kept", 250);
    }
    server.wait_for_log(&["store session=", "path=/new", "result=file", error]);
}

#[test]
fn a_file_system_is_full() {
    const ROOM: usize = 8 << 20;
    let server = Server::start_within(
        "keep-free = 0",
        &format!("mount -t tmpfs -o size={ROOM} tmpfs \"$ROOT\""),
    );
    too_much(&server, ROOM, 452, "No space left on device");
}

/// The kernel takes what the limit leaves, and refuses the rest.
#[test]
fn a_limit_of_file_sizes() {
    const ROOM: usize = 100_000;
    let server = Server::start_as("", &[(USER, "\"full\"")], |command| {
        let mut limited = unprivileged("prlimit");
        limited.arg(format!("--fsize={ROOM}")).args(invocation());
        wrap(command, limited);
    });
    too_much(&server, ROOM, 552, "File too large");
}

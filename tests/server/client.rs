//! A raw FTPS client: it sends what the test says and nothing else.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::ClientConfig;

use crate::harness::{Family, Port, Server, PASSWORD, USER};
use crate::tls::{client_config, connect, try_connect, End, TlsClient, Version};

/// A reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    /// All lines as they came, each with its CRLF.
    pub bytes: Vec<u8>,
}

/// A control connection.
pub struct Client {
    link: Link,
    received: Vec<u8>,
    /// How much of it is lines that do not end a reply.
    searched: usize,
    config: Arc<ClientConfig>,
    server: SocketAddr,
    from: Option<IpAddr>,
}

enum Link {
    Clear(TcpStream),
    Secured(Box<TlsClient>),
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

impl Client {
    /// A TCP connection and nothing more.
    pub fn open(server: SocketAddr, config: &Arc<ClientConfig>, from: Option<IpAddr>) -> Client {
        let local = from.map(|from| SocketAddr::new(from, 0));
        Client {
            link: Link::Clear(connect(local, server)),
            received: Vec::new(),
            searched: 0,
            config: Arc::clone(config),
            server,
            from,
        }
    }

    /// A connection on an explicit port, in clear text, greeted.
    pub fn clear(server: &Server) -> Client {
        let config = client_config(Version::V13);
        let address = server.address(Port::Explicit, Family::V4);
        let mut client = Client::open(address, &config, None);
        assert_eq!(client.reply().code, 220);
        client
    }

    /// A connection with TLS up, greeted.
    pub fn secured(
        server: &Server,
        port: Port,
        family: Family,
        config: &Arc<ClientConfig>,
    ) -> Client {
        let mut client = Client::open(server.address(port, family), config, None);
        if port == Port::Explicit {
            assert_eq!(client.reply().code, 220);
            client.expect("AUTH TLS", 234);
            client.secure();
        } else {
            client.secure();
            assert_eq!(client.reply().code, 220);
        }
        client
    }

    /// A connection that is ready for transfers.
    pub fn logged_in(
        server: &Server,
        port: Port,
        family: Family,
        config: &Arc<ClientConfig>,
    ) -> Client {
        let mut client = Client::secured(server, port, family, config);
        client.log_in(USER, PASSWORD);
        if port == Port::Explicit {
            client.expect("PBSZ 0", 200);
            client.expect("PROT P", 200);
        }
        client
    }

    /// The usual case: explicit, IPv4, a TLS client of its own.
    pub fn ready(server: &Server, version: Version) -> Client {
        let config = client_config(version);
        Client::logged_in(server, Port::Explicit, Family::V4, &config)
    }

    pub fn log_in(&mut self, user: &str, password: &str) {
        self.expect(format!("USER {user}"), 331);
        self.expect(format!("PASS {password}"), 230);
    }

    /// Raises the connection to TLS.
    pub fn secure(&mut self) {
        self.secure_with(b"");
    }

    /// The same, with `first` in one TCP segment with the end of the handshake.
    pub fn secure_with(&mut self, first: &[u8]) {
        let Link::Clear(socket) = &self.link else {
            panic!("TLS is up already");
        };
        let mut tls = TlsClient::new(socket.try_clone().unwrap(), &self.config);
        tls.handshake_with(first);
        self.link = Link::Secured(Box::new(tls));
    }

    /// As [`secure`](Client::secure), with a server that may be gone.
    pub fn try_secure(&mut self) -> std::io::Result<()> {
        let Link::Clear(socket) = &self.link else {
            panic!("TLS is up already");
        };
        let mut tls = TlsClient::new(socket.try_clone()?, &self.config);
        tls.try_handshake_with(b"")?;
        self.link = Link::Secured(Box::new(tls));
        Ok(())
    }

    /// Sends bytes as they are, with one write(2).
    pub fn send(&mut self, bytes: &[u8]) {
        match &mut self.link {
            Link::Clear(socket) => socket.write_all(bytes).unwrap(),
            Link::Secured(tls) => tls.send(bytes),
        }
    }

    /// Sends bytes as urgent data in clear text, as Telnet's signals go.
    pub fn send_urgently(&mut self, bytes: &[u8]) {
        let Link::Clear(socket) = &self.link else {
            panic!("TLS has no urgent data");
        };
        let sent = rustix::net::send(socket, bytes, rustix::net::SendFlags::OOB);
        assert_eq!(sent, Ok(bytes.len()));
    }

    /// The next reply.
    pub fn reply(&mut self) -> Reply {
        self.next_reply()
            .unwrap_or_else(|end| panic!("the connection ended: {end:?}"))
    }

    /// The next reply, or how the connection ended.
    pub fn next_reply(&mut self) -> Result<Reply, End> {
        loop {
            if let Some(length) = whole_reply(&self.received, &mut self.searched) {
                self.searched = 0;
                let bytes: Vec<u8> = self.received.drain(..length).collect();
                let code = std::str::from_utf8(&bytes[..3]).unwrap().parse().unwrap();
                return Ok(Reply { code, bytes });
            }
            self.receive()?;
        }
    }

    /// Waits for the end of the connection, before which nothing more may come.
    pub fn end(&mut self) -> End {
        match self.next_reply() {
            Ok(reply) => panic!("expected the end, not {reply:?}"),
            Err(end) => end,
        }
    }

    pub fn command(&mut self, command: impl AsRef<[u8]>) -> Reply {
        self.send(&[command.as_ref(), b"\r\n"].concat());
        self.reply()
    }

    /// Sends a command whose reply must have this code.
    pub fn expect(&mut self, command: impl AsRef<[u8]>, code: u16) -> Reply {
        let reply = self.command(&command);
        let command = command.as_ref().escape_ascii();
        assert_eq!(reply.code, code, "{command}: {}", reply.text());
        reply
    }

    /// Waits for a reply that must have this code.
    pub fn expect_reply(&mut self, code: u16) -> Reply {
        let reply = self.reply();
        assert_eq!(reply.code, code, "{}", reply.text());
        reply
    }

    /// EPSV: where to connect.
    pub fn passive(&mut self) -> SocketAddr {
        let reply = self.expect("EPSV", 229);
        self.announced(&reply)
    }

    /// Where the reply to EPSV says to connect.
    pub fn announced(&self, reply: &Reply) -> SocketAddr {
        let text = reply.text();
        let port = text.split("(|||").nth(1).unwrap();
        let port = port.split('|').next().unwrap();
        SocketAddr::new(self.server.ip(), port.parse().unwrap())
    }

    /// A command to a server that may be gone.
    pub fn try_command(&mut self, command: impl AsRef<[u8]>) -> Result<Reply, End> {
        let line = [command.as_ref(), b"\r\n"].concat();
        let sent = match &mut self.link {
            Link::Clear(socket) => socket.write_all(&line),
            Link::Secured(tls) => tls.try_send(&line),
        };
        sent.map_err(|_| End::Reset)?;
        self.next_reply()
    }

    /// As [`start_transfer`](Client::start_transfer), of a server that may be gone. With the reply
    /// to the command, which must be 150.
    pub fn try_start_transfer(
        &mut self,
        command: impl AsRef<[u8]>,
    ) -> Result<(TlsClient, Reply), End> {
        let reply = self.try_command("EPSV")?;
        let address = self.announced(&reply);
        let from = self.from.map(|from| SocketAddr::new(from, 0));
        let socket = try_connect(from, address).map_err(|_| End::Reset)?;
        let mut data = TlsClient::new(socket, &self.config);
        let reply = self.try_command(&command)?;
        let command = command.as_ref().escape_ascii();
        assert_eq!(reply.code, 150, "{command}: {}", reply.text());
        data.try_handshake_with(b"").map_err(|_| End::Reset)?;
        Ok((data, reply))
    }

    /// A data connection to `address` whose handshake has not begun.
    pub fn connect(&self, address: SocketAddr) -> TlsClient {
        let from = self.from.map(|from| SocketAddr::new(from, 0));
        TlsClient::new(connect(from, address), &self.config)
    }

    /// The TLS of a data connection over a socket that is connected already.
    pub fn over(&self, socket: TcpStream) -> TlsClient {
        TlsClient::new(socket, &self.config)
    }

    /// This end of the control connection.
    pub fn local(&self) -> SocketAddr {
        match &self.link {
            Link::Clear(socket) => socket.local_addr(),
            Link::Secured(tls) => tls.socket.local_addr(),
        }
        .unwrap()
    }

    /// The usual order: EPSV, connect, command, mark, handshake.
    pub fn start_transfer(&mut self, command: impl AsRef<[u8]>) -> TlsClient {
        let address = self.passive();
        let mut data = self.connect(address);
        self.expect(command, 150);
        data.handshake();
        data
    }

    /// A whole download or listing.
    pub fn retrieve(&mut self, command: impl AsRef<[u8]>) -> Vec<u8> {
        let mut data = self.start_transfer(command);
        let (bytes, end) = data.read_to_end();
        assert_eq!(end, End::CloseNotify);
        data.close();
        self.expect_reply(226);
        bytes
    }

    /// A whole upload.
    pub fn store(&mut self, command: impl AsRef<[u8]>, bytes: &[u8]) {
        let mut data = self.start_transfer(command);
        data.send(bytes);
        data.close();
        self.expect_reply(226);
        assert_eq!(data.read_to_end(), (Vec::new(), End::CloseNotify));
    }

    /// An upload that breaks off after these bytes.
    pub fn cut_off(&mut self, command: impl AsRef<[u8]>, bytes: &[u8]) {
        let mut data = self.start_transfer(command);
        data.send(bytes);
        drop(data);
        self.expect_reply(426);
    }

    /// The control connection's socket.
    pub fn socket(&self) -> &TcpStream {
        match &self.link {
            Link::Clear(socket) => socket,
            Link::Secured(tls) => &tls.socket,
        }
    }

    /// Gives up the control connection's socket.
    pub fn into_socket(self) -> TcpStream {
        match self.link {
            Link::Clear(socket) => socket,
            Link::Secured(tls) => tls.socket,
        }
    }

    fn receive(&mut self) -> Result<(), End> {
        let socket = match &mut self.link {
            Link::Secured(tls) => return tls.receive(&mut self.received),
            Link::Clear(socket) => socket,
        };
        let mut buffer = [0; 4096];
        match socket.read(&mut buffer) {
            Ok(0) => Err(End::Fin),
            Ok(count) => {
                self.received.extend_from_slice(&buffer[..count]);
                Ok(())
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Err(End::Reset),
            Err(error) => panic!("nothing came from the server: {error}"),
        }
    }
}

/// The length of the reply at the start of `bytes` when it is there in whole; `searched` is where
/// to look for its last line.
fn whole_reply(bytes: &[u8], searched: &mut usize) -> Option<usize> {
    let mut length = *searched;
    for line in bytes[length..].split_inclusive(|&byte| byte == b'\n') {
        *searched = length;
        length += line.len();
        let last = line.ends_with(b"\r\n")
            && line.len() >= 6
            && line[..3] == bytes[..3]
            && line[..3].iter().all(u8::is_ascii_digit)
            && line[3] == b' ';
        if last {
            return Some(length);
        }
    }
    None
}

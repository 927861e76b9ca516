//! A session of FTP over TLS as a client has it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use rustls::{ClientConfig, ClientConnection};

use crate::content;
use crate::secured::{client_config, Secured};
use crate::{Arguments, Outcome};

/// No server is this slow.
const LONGEST: Duration = Duration::from_secs(60);

/// A control connection after AUTH TLS.
pub struct Session {
    control: Secured<ClientConnection>,
    /// Received and not read yet.
    unread: Vec<u8>,
    config: Arc<ClientConfig>,
    /// What the last data connection was.
    data: Vec<(&'static str, String)>,
}

impl Session {
    /// Connects and secures the control connection, with a full handshake.
    pub fn connect(arguments: &Arguments) -> Outcome<Session> {
        let config = client_config(arguments.text("cipher")?)?;
        let socket = TcpStream::connect(arguments.text("address")?)?;
        socket.set_read_timeout(Some(LONGEST))?;
        socket.set_write_timeout(Some(LONGEST))?;
        let mut clear = BufReader::new(&socket);
        clear_reply(&mut clear, 220)?;
        (&socket).write_all(b"AUTH TLS\r\n")?;
        clear_reply(&mut clear, 234)?;
        let control = Secured::client(socket, &config)?;
        Ok(Session {
            control,
            unread: Vec::new(),
            config,
            data: Vec::new(),
        })
    }

    /// Connects and logs in, and prepares for transfers.
    pub fn log_in(arguments: &Arguments) -> Outcome<Session> {
        let mut session = Session::connect(arguments)?;
        session.expect(&format!("USER {}", arguments.text("user")?), &[331])?;
        session.expect(&format!("PASS {}", arguments.text("password")?), &[230])?;
        session.expect("PBSZ 0", &[200])?;
        session.expect("PROT P", &[200])?;
        session.expect("TYPE I", &[200])?;
        Ok(session)
    }

    /// QUIT, to the connection's end.
    pub fn quit(mut self) -> Outcome<()> {
        self.expect("QUIT", &[221])?;
        self.control.await_end();
        Ok(())
    }

    /// What was negotiated, on the last data connection if there was one.
    pub fn describe(&self) -> Vec<(&'static str, String)> {
        if self.data.is_empty() {
            return self.control.describe();
        }
        self.data.clone()
    }

    /// Sends a command; its reply must have one of these codes.
    pub fn expect(&mut self, command: &str, codes: &[u16]) -> Outcome<String> {
        self.command(command)?;
        let (code, text) = self.reply()?;
        if codes.contains(&code) {
            return Ok(text);
        }
        let verb = command.split(' ').next().unwrap_or_default();
        Err(format!("{verb} was answered {text}").into())
    }

    fn command(&mut self, command: &str) -> Outcome<()> {
        self.control.send(format!("{command}\r\n").as_bytes())
    }

    /// The next reply: its code and its last line.
    fn reply(&mut self) -> Outcome<(u16, String)> {
        loop {
            while let Some(end) = self.unread.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.unread.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if let Some((code, _)) = line.split_once(' ') {
                    if let (3, Ok(code)) = (code.len(), code.parse()) {
                        return Ok((code, line));
                    }
                }
            }
            let unread = &mut self.unread;
            let more = self.control.receive(&mut |bytes| {
                unread.extend_from_slice(bytes);
                Ok(())
            })?;
            if !more && !self.unread.contains(&b'\n') {
                return Err("the control connection ended".into());
            }
        }
    }

    /// PASV, the connection, the command and TLS on the connection. Replies are read later: some
    /// servers send the mark before the handshake, others after it.
    fn open(&mut self, command: &str) -> Outcome<Secured<ClientConnection>> {
        let text = self.expect("PASV", &[227])?;
        let socket = TcpStream::connect(passive(&text)?)?;
        socket.set_read_timeout(Some(LONGEST))?;
        socket.set_write_timeout(Some(LONGEST))?;
        self.command(command)?;
        let data = match Secured::client(socket, &self.config) {
            Ok(data) => data,
            Err(error) => {
                let told = self
                    .reply()
                    .map_or_else(|_| String::new(), |(_, text)| text);
                return Err(format!("{command}: {error}: {told}").into());
            }
        };
        self.data = data.describe();
        Ok(data)
    }

    /// The mark, and the completion that has to be good.
    fn complete(&mut self, command: &str) -> Outcome<()> {
        loop {
            let (code, text) = self.reply()?;
            match code {
                100..200 => {}
                200..300 => return Ok(()),
                _ => return Err(format!("{command} was answered {text}").into()),
            }
        }
    }

    /// Receives to the end and returns whether the session was resumed.
    fn receive(
        &mut self,
        command: &str,
        each: &mut dyn FnMut(&[u8]) -> Outcome<()>,
    ) -> Outcome<bool> {
        let mut data = self.open(command)?;
        while data.receive(each)? {}
        // Some do not close before we do.
        let _ = data.close();
        self.complete(command)?;
        Ok(data.is_resumed())
    }

    /// RETR of a file that must hold what belongs into it; whether the session was resumed.
    pub fn retrieve(&mut self, path: &str, size: u64) -> Outcome<bool> {
        let mut offset = 0_u64;
        let resumed = self.receive(&format!("RETR {path}"), &mut |bytes| {
            if !content::is_at(offset, bytes) {
                return Err(format!("{path}: wrong at {offset}").into());
            }
            offset = offset.saturating_add(bytes.len() as u64);
            Ok(())
        })?;
        if offset == size {
            return Ok(resumed);
        }
        Err(format!("{path}: {offset} bytes, not {size}").into())
    }

    /// STOR of so many bytes; whether the session was resumed.
    pub fn store(&mut self, path: &str, size: u64) -> Outcome<bool> {
        let command = format!("STOR {path}");
        let mut data = self.open(&command)?;
        let mut offset = 0;
        while offset < size {
            let piece = content::at(offset, size.saturating_sub(offset));
            data.send(piece)?;
            offset = offset.saturating_add(piece.len() as u64);
        }
        data.close()?;
        data.await_end();
        self.complete(&command)?;
        Ok(data.is_resumed())
    }

    /// The lines of a listing, counted.
    pub fn list(&mut self, command: &str) -> Outcome<usize> {
        let mut lines = 0_usize;
        self.receive(command, &mut |bytes| {
            lines += bytes.iter().filter(|&&byte| byte == b'\n').count();
            Ok(())
        })?;
        Ok(lines)
    }

    /// RETR, of which only so many bytes are read, rounded up.
    pub fn begin_retrieving(
        &mut self,
        path: &str,
        enough: u64,
    ) -> Outcome<Secured<ClientConnection>> {
        let mut data = self.open(&format!("RETR {path}"))?;
        let mut read = 0_u64;
        while read < enough {
            let more = data.receive(&mut |bytes| {
                read = read.saturating_add(bytes.len() as u64);
                Ok(())
            })?;
            if !more {
                return Err("the file was too short to be held up".into());
            }
        }
        Ok(data)
    }
}

/// A reply in clear text, to its last line.
fn clear_reply(reader: &mut impl BufRead, wanted: u16) -> Outcome<()> {
    loop {
        let mut line = String::new();
        if reader.by_ref().take(4096).read_line(&mut line)? == 0 {
            return Err("closed before AUTH TLS".into());
        }
        match line.split_once(' ') {
            Some((code, _)) if code.parse() == Ok(wanted) => return Ok(()),
            Some((code, _)) if code.len() == 3 && code.parse::<u16>().is_ok() => {
                return Err(format!("{wanted} was expected, not {line}").into());
            }
            _ => {}
        }
    }
}

/// The address in a reply to PASV (RFC 959 section 4.1.2).
fn passive(text: &str) -> Outcome<SocketAddr> {
    let numbers: Vec<u8> = text
        .split(|letter: char| !letter.is_ascii_digit())
        .skip(1)
        .filter_map(|word| word.parse().ok())
        .collect();
    let [a, b, c, d, high, low] = numbers[..] else {
        return Err(format!("no address: {text}").into());
    };
    let port = u16::from_be_bytes([high, low]);
    Ok(SocketAddr::from((Ipv4Addr::new(a, b, c, d), port)))
}

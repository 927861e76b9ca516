//! What the work costs without FTP: the least that a program with the same TLS library can do.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::server::{ServerConfig, ServerConnection};

use crate::content;
use crate::secured::{client_config, Secured};
use crate::{ready, report, Arguments, Outcome};

/// Bytes read from a file, or written to it, at once.
const PIECE: usize = 64 << 10;

/// Serves one connection after the other, to its end by a signal: sends `file=`, receives into it,
/// or only shakes hands.
pub fn serve(work: &str, arguments: &Arguments) -> Outcome<()> {
    let chain = fs::read(arguments.text("chain")?)?;
    let key = fs::read(arguments.text("key")?)?;
    let chain = rustls_pemfile::certs(&mut &chain[..]).collect::<Result<Vec<_>, _>>()?;
    let key = rustls_pemfile::private_key(&mut &key[..])?.ok_or("no key")?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("port={}", listener.local_addr()?.port());
    std::io::stdout().flush()?;
    loop {
        let (socket, _) = listener.accept()?;
        socket.set_nodelay(true)?;
        let tls = ServerConnection::new(Arc::clone(&config))?;
        let mut secured = Secured::shake(socket, tls)?;
        match work {
            "raw-send" => send(&mut secured, arguments.text("file")?)?,
            "raw-receive" => receive(&mut secured, arguments.text("file")?)?,
            _ => {}
        }
        secured.close()?;
        secured.await_end();
    }
}

fn send(secured: &mut Secured<ServerConnection>, path: &str) -> Outcome<()> {
    let mut file = File::open(path)?;
    let mut piece = vec![0; PIECE];
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok(());
        }
        secured.send(piece.get(..count).unwrap_or_default())?;
    }
}

fn receive(secured: &mut Secured<ServerConnection>, path: &str) -> Outcome<()> {
    let mut file = File::create(path)?;
    let mut gathered = Vec::with_capacity(2 * PIECE);
    loop {
        let more = secured.receive(&mut |bytes| {
            gathered.extend_from_slice(bytes);
            if gathered.len() >= PIECE {
                file.write_all(&gathered)?;
                gathered.clear();
            }
            Ok(())
        })?;
        if !more {
            return Ok(file.write_all(&gathered)?);
        }
    }
}

fn connect(arguments: &Arguments) -> Outcome<TcpStream> {
    Ok(TcpStream::connect(arguments.text("address")?)?)
}

/// Receives what [`serve`] sends, and verifies it.
pub fn fetch(arguments: &Arguments) -> Outcome<()> {
    let size: u64 = arguments.number("size")?;
    let config = client_config(arguments.text("cipher")?)?;
    let began = ready()?;
    let mut secured = Secured::client(connect(arguments)?, &config)?;
    let mut offset = 0_u64;
    while secured.receive(&mut |bytes| {
        if !content::is_at(offset, bytes) {
            return Err(format!("wrong at {offset}").into());
        }
        offset = offset.saturating_add(bytes.len() as u64);
        Ok(())
    })? {}
    if offset != size {
        return Err(format!("{offset} bytes, not {size}").into());
    }
    let mut words = secured.describe();
    words.push(("bytes", offset.to_string()));
    report(began, &words)?;
    secured.close()
}

/// Sends what [`serve`] receives.
pub fn push(arguments: &Arguments) -> Outcome<()> {
    let size: u64 = arguments.number("size")?;
    let config = client_config(arguments.text("cipher")?)?;
    let began = ready()?;
    let mut secured = Secured::client(connect(arguments)?, &config)?;
    let mut offset = 0;
    while offset < size {
        let piece = content::at(offset, size.saturating_sub(offset));
        secured.send(piece)?;
        offset = offset.saturating_add(piece.len() as u64);
    }
    secured.close()?;
    secured.await_end();
    let mut words = secured.describe();
    words.push(("bytes", offset.to_string()));
    report(began, &words)
}

/// Handshakes, full or resumed.
pub fn greet(arguments: &Arguments) -> Outcome<()> {
    let count: usize = arguments.number("count")?;
    let resume = arguments.number::<u8>("resume")? == 1;
    let cipher = arguments.text("cipher")?;
    let kept = client_config(cipher)?;
    if resume {
        // For the ticket.
        let mut secured = Secured::client(connect(arguments)?, &kept)?;
        secured.await_end();
        secured.close()?;
    }
    let began = ready()?;
    let mut words = Vec::new();
    for _ in 0..count {
        let config = if resume {
            Arc::clone(&kept)
        } else {
            client_config(cipher)?
        };
        let mut secured = Secured::client(connect(arguments)?, &config)?;
        secured.await_end();
        let _ = secured.close();
        if secured.is_resumed() != resume {
            return Err("a handshake was not of the kind that was wanted".into());
        }
        words = secured.describe();
    }
    words.push(("count", count.to_string()));
    report(began, &words)
}

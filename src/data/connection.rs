//! The data connection itself, over TLS or in clear text.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use crate::proto::outcome::TransferError;
use crate::proto::session::PlainFrom;
use crate::tls::{Received, TlsStream};

/// A data connection that is known to be the client's.
#[derive(Debug)]
pub struct DataConnection {
    link: Link,
}

#[derive(Debug)]
enum Link {
    Secured(Box<TlsStream>),
    Clear(ClearStream),
}

/// Clear text over a non-blocking socket.
#[derive(Debug)]
struct ClearStream {
    socket: TcpStream,
    unsent: Vec<u8>,
    wire: u64,
}

impl DataConnection {
    pub(super) fn secured(stream: Box<TlsStream>) -> DataConnection {
        DataConnection {
            link: Link::Secured(stream),
        }
    }

    /// Clear text takes the proof that it is permitted.
    pub(super) fn clear(socket: TcpStream, _: PlainFrom) -> DataConnection {
        DataConnection {
            link: Link::Clear(ClearStream {
                socket,
                unsent: Vec::new(),
                wire: 0,
            }),
        }
    }

    /// Takes a piece, and encrypts it where it is TLS; [`flush`](Self::flush) sends it.
    ///
    /// # Errors
    /// [`TransferError::Network`].
    pub fn push(&mut self, piece: &[u8]) -> Result<(), TransferError> {
        match &mut self.link {
            Link::Secured(tls) => tls.push(piece).map_err(|_| TransferError::Network),
            Link::Clear(clear) => {
                clear.unsent.extend_from_slice(piece);
                Ok(())
            }
        }
    }

    /// Sends what the socket takes now; `true` when nothing is left.
    ///
    /// # Errors
    /// [`TransferError::Network`].
    pub fn flush(&mut self) -> Result<bool, TransferError> {
        match &mut self.link {
            Link::Secured(tls) => tls.flush(),
            Link::Clear(clear) => clear.flush(),
        }
        .map_err(|_| TransferError::Network)
    }

    /// Reads the socket once, into `scratch`, and hands what it means to `each`. The client's
    /// end is close_notify over TLS and FIN in clear text, which nothing protects.
    ///
    /// # Errors
    /// What `each` returned, or [`TransferError::Network`].
    pub fn receive(
        &mut self,
        scratch: &mut [u8],
        each: impl FnMut(&[u8]) -> Result<(), TransferError>,
    ) -> Result<Received, TransferError> {
        match &mut self.link {
            Link::Secured(tls) => tls
                .receive(scratch, each)
                .unwrap_or(Err(TransferError::Network)),
            Link::Clear(clear) => clear.receive(scratch, each),
        }
    }

    /// Bytes that the socket has taken and given so far, as they are on the wire.
    pub fn wire(&self) -> u64 {
        match &self.link {
            Link::Secured(tls) => tls.wire(),
            Link::Clear(clear) => clear.wire,
        }
    }

    /// Says that nothing more follows: close_notify over TLS, and in clear text only FIN says so.
    /// [`flush`](Self::flush) sends it.
    pub fn close_notify(&mut self) {
        match &mut self.link {
            Link::Secured(tls) => tls.close_notify(),
            Link::Clear(_) => {}
        }
    }

    /// Sends FIN. What it reports means nothing: the peer may be gone by now.
    pub fn shut_down(&mut self) {
        let socket = match &self.link {
            Link::Secured(tls) => tls.socket(),
            Link::Clear(clear) => &clear.socket,
        };
        let _ = socket.shutdown(Shutdown::Write);
    }

    /// `1.2`, `1.3` or `none`, for the log.
    pub fn version(&self) -> &'static str {
        match &self.link {
            Link::Secured(tls) => tls.version(),
            Link::Clear(_) => "none",
        }
    }

    /// Whether it is TLS.
    pub fn is_secured(&self) -> bool {
        match self.link {
            Link::Secured(_) => true,
            Link::Clear(_) => false,
        }
    }

    /// Whether the handshake resumed a session, for the log.
    pub fn is_resumed(&self) -> bool {
        match &self.link {
            Link::Secured(tls) => tls.is_resumed(),
            Link::Clear(_) => false,
        }
    }
}

impl ClearStream {
    fn flush(&mut self) -> io::Result<bool> {
        let mut sent = 0;
        let outcome = loop {
            let rest = self.unsent.get(sent..).unwrap_or_default();
            if rest.is_empty() {
                break Ok(true);
            }
            match self.socket.write(rest) {
                Ok(0) => break Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    sent = sent.saturating_add(count);
                    self.wire = self.wire.saturating_add(length(count));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => break Err(error),
            }
        };
        self.unsent.drain(..sent);
        outcome
    }

    fn receive(
        &mut self,
        scratch: &mut [u8],
        mut each: impl FnMut(&[u8]) -> Result<(), TransferError>,
    ) -> Result<Received, TransferError> {
        loop {
            match self.socket.read(scratch) {
                Ok(0) => return Ok(Received::End),
                Ok(count) => {
                    self.wire = self.wire.saturating_add(length(count));
                    each(scratch.get(..count).unwrap_or_default())?;
                    return Ok(Received::Some);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    return Ok(Received::Nothing)
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // RST too: whoever resets has not ended the file.
                Err(_) => return Err(TransferError::Network),
            }
        }
    }
}

fn length(count: usize) -> u64 {
    u64::try_from(count).unwrap_or(u64::MAX)
}

impl AsFd for DataConnection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.link {
            Link::Secured(tls) => tls.as_fd(),
            Link::Clear(clear) => clear.socket.as_fd(),
        }
    }
}

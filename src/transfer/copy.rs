//! Moving the bytes, either way.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::PollFlags;

use crate::config::network::Cut;
use crate::data::DataConnection;
use crate::proto::ascii;
use crate::proto::outcome::TransferError;
use crate::root::{Reading, Root, Upload};
use crate::sockets;
use crate::tls::Received;
use crate::wait::Deadline;

use super::hearing::Hearing;
use super::listing::Listing;
use super::pace::Pace;

/// Bytes moved between two looks at the control connection, about.
const PIECE: usize = 64 << 10;
/// Bytes of a file read at once: a record of TLS. Encrypted they are kept until there are enough
/// of them to send, so more of the file would be memory for nothing.
const BLOCK: usize = 16 << 10;
/// How long the client's close_notify is awaited after a download.
const LONGEST_CLOSE: Duration = Duration::from_millis(200);

/// A transfer whose data connection is secured.
pub(super) struct Copy<'a, 'h> {
    pub(super) data: &'a mut DataConnection,
    pub(super) hearing: &'a mut Hearing<'h>,
    pub(super) pace: Pace,
    pub(super) moved: &'a mut u64,
    /// How an upload ended without close_notify, and whether that may be permitted.
    pub(super) cut: &'a mut Option<(Cut, bool)>,
}

impl Copy<'_, '_> {
    pub(super) fn retrieve(
        &mut self,
        mut reading: Reading,
        ascii: bool,
    ) -> Result<(), TransferError> {
        let mut block = vec![0; BLOCK];
        let mut translation = ascii::ToWire::default();
        let mut translated = Vec::new();
        let mut unsent = 0_usize;
        loop {
            let count = reading.read(&mut block).map_err(TransferError::Local)?;
            let bytes = block.get(..count).unwrap_or_default();
            if bytes.is_empty() {
                return self.send_last(unsent);
            }
            #[cfg(feature = "fault-injection")]
            crate::fault::strike("transfer", bytes);
            let wire = if ascii {
                translated.clear();
                translation.translate(bytes, &mut translated);
                &translated
            } else {
                bytes
            };
            self.data.push(wire)?;
            unsent = unsent.saturating_add(wire.len());
            if unsent >= PIECE {
                self.send(unsent)?;
                unsent = 0;
            }
        }
    }

    pub(super) fn list(&mut self, mut listing: Listing, root: &Root) -> Result<(), TransferError> {
        let mut lines = Vec::with_capacity(PIECE);
        loop {
            lines.clear();
            let filled = listing.fill(root, &mut lines, PIECE / 2);
            self.data.push(&lines)?;
            if filled == Ok(false) {
                return self.send_last(lines.len());
            }
            // What could be read goes out, if without its end.
            self.send(lines.len())?;
            filled.map_err(TransferError::Local)?;
        }
    }

    /// Sends what was pushed since the last time: so many bytes.
    fn send(&mut self, count: usize) -> Result<(), TransferError> {
        self.hearing.listen(*self.moved)?;
        self.flush()?;
        *self.moved = self
            .moved
            .saturating_add(u64::try_from(count).unwrap_or(u64::MAX));
        Ok(())
    }

    /// The same with the end behind it, in one packet where there is room.
    fn send_last(&mut self, count: usize) -> Result<(), TransferError> {
        self.data.close_notify();
        self.send(count)
    }

    fn flush(&mut self) -> Result<(), TransferError> {
        while !self.data.flush()? {
            self.wait(PollFlags::OUT)?;
        }
        Ok(())
    }

    /// Waits for the client, or for the time to try again although nothing is reported.
    fn wait(&mut self, interest: PollFlags) -> Result<(), TransferError> {
        let deadline = self.pace.look(self.data.wire())?;
        let begun = Instant::now();
        self.hearing
            .wait(&[(self.data.as_fd(), interest)], deadline)?;
        self.pace.waited(begun.elapsed());
        Ok(())
    }

    /// The end of a download, whose close_notify is sent: FIN, and a short wait for the client's
    /// close_notify, which tells that it has read everything.
    pub(super) fn finish(&mut self, unresponsive: &mut bool) -> Result<(), TransferError> {
        self.data.shut_down();
        let deadline = Deadline::after(LONGEST_CLOSE);
        let mut scratch = [0; 512];
        while !deadline.is_past() {
            match self.data.receive(&mut scratch, |_| Ok(())) {
                // Everything was sent; how the client ends its side changes nothing.
                Ok(Received::End | Received::Fin | Received::Truncated) | Err(_) => break,
                Ok(Received::Some) => {}
                // What has come is always taken: closing over unread bytes would be a reset, and
                // that eats what the client has not received yet.
                Ok(Received::Nothing) if *unresponsive => break,
                Ok(Received::Nothing) => {
                    let interest = (self.data.as_fd(), PollFlags::IN);
                    match self.hearing.wait(&[interest], deadline) {
                        Ok(ready) if ready.any() => {}
                        Ok(_) => *unresponsive = true,
                        // ABOR comes too late: all has been sent.
                        Err(_) => break,
                    }
                }
            }
        }
        Ok(())
    }

    /// `whole` decides whether an upload that ended without close_notify, after so many bytes,
    /// is whole, and knows whether it could be.
    pub(super) fn store(
        &mut self,
        mut upload: Upload,
        ascii: bool,
        whole: impl Fn(Cut, u64) -> (bool, bool),
    ) -> Result<(), TransferError> {
        let mut scratch = vec![0; BLOCK];
        let mut translation = ascii::FromWire::default();
        let mut gathered = Vec::new();
        loop {
            self.hearing.listen(*self.moved)?;
            // Small files do not need as much.
            if *self.moved >= length(&scratch) {
                scratch.resize(PIECE, 0);
            }
            let moved = &mut *self.moved;
            gathered.clear();
            let received = self.data.receive(&mut scratch, |plain| {
                #[cfg(feature = "fault-injection")]
                crate::fault::strike("transfer", plain);
                *moved = moved.saturating_add(length(plain));
                if ascii {
                    translation.translate(plain, &mut gathered);
                } else {
                    gathered.extend_from_slice(plain);
                }
                Ok(())
            });
            // The records of one look with one write(2); and what came before an error.
            upload.write(&gathered).map_err(TransferError::Local)?;
            let received = received?;
            match received {
                Received::Some => {}
                Received::Nothing => {
                    // For small files; a large one has acknowledgements enough.
                    if scratch.len() < PIECE {
                        sockets::acknowledge_at_once(self.data);
                    }
                    self.wait(PollFlags::IN)?;
                }
                Received::End => break,
                Received::Fin | Received::Truncated => {
                    let cut = if received == Received::Fin {
                        Cut::Fin
                    } else {
                        Cut::Broken
                    };
                    let (is_whole, could_be) = whole(cut, *self.moved);
                    *self.cut = Some((cut, could_be));
                    if is_whole {
                        break;
                    }
                    return Err(TransferError::Truncated);
                }
            }
        }
        gathered.clear();
        translation.finish(&mut gathered);
        upload.write(&gathered).map_err(TransferError::Local)?;
        self.hearing.listen(*self.moved)?;
        upload.publish().map_err(TransferError::Local)?;
        // The client has all it needs; what our close reports means nothing any more.
        self.data.close_notify();
        let _ = self.data.flush();
        self.data.shut_down();
        Ok(())
    }
}

fn length(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}

//! What one client does to a server that is killed, and what it knows of its files: what was
//! acknowledged, and what was under way.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::path::Path;
use std::sync::Mutex;

use super::{Digest, Life, Session, Shared};
use crate::client::Client;
use crate::content::{content, digest};
use crate::harness::Server;
use crate::tls::{End, Version};

/// Names of each client.
const NAMES: u64 = 6;
/// Names that all clients upload to.
const SHARED: u64 = 2;
pub(super) const PIECE: usize = 48 << 10;

/// Choices that can be made again.
pub(super) struct Choices(pub(super) u64);

impl Choices {
    /// A number below `end`.
    pub(super) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    /// Content that nobody else has.
    fn version(&mut self) -> Pieces {
        let seed = self.below(u64::MAX);
        let length = match self.below(30) {
            // Beyond the first sync of an upload, which is what a resume begins behind.
            29 => (8 << 20) + self.below(8 << 20),
            length => self.small(length / 3),
        };
        vec![(seed, usize::try_from(length).unwrap())]
    }

    fn small(&mut self, kind: u64) -> u64 {
        match kind {
            0 => 0,
            1..=4 => self.below(4_000),
            5..=7 => self.below(200_000),
            8 => self.below(1_000_000),
            _ => self.below(4_000_000),
        }
    }
}

/// Content as seeds and lengths of what it is put together from.
pub(super) type Pieces = Vec<(u64, usize)>;

pub(super) fn bytes(pieces: &Pieces) -> Vec<u8> {
    let parts = pieces.iter().map(|(seed, length)| content(*seed, *length));
    parts.collect::<Vec<_>>().concat()
}

pub(super) fn length(pieces: &Pieces) -> usize {
    pieces.iter().map(|(_, length)| length).sum()
}

/// What was under way when the server was killed.
#[derive(Debug, Clone)]
enum Pending {
    Store { name: String, version: Pieces },
    Append { name: String, more: (u64, usize) },
    Rename { from: String, to: String },
    Delete { name: String },
}

/// What one client knows of its names: what the server acknowledged, and what it did not yet.
pub(super) struct Ledger {
    number: usize,
    pub(super) published: BTreeMap<String, Pieces>,
    pending: Option<Pending>,
    choices: Choices,
}

impl Ledger {
    pub(super) fn new(number: usize, choices: Choices) -> Ledger {
        Ledger {
            number,
            published: BTreeMap::new(),
            pending: None,
            choices,
        }
    }

    fn name(&mut self) -> String {
        format!("c{}-{}", self.number, self.choices.below(NAMES))
    }

    /// Uploads until the server is gone.
    pub(super) fn go_on(&mut self, session: &mut Session<'_>, shared: &Mutex<Shared>) -> End {
        loop {
            let done = match self.choices.below(12) {
                0..=3 => self.store(session),
                4..=5 => self.resume(session),
                6..=7 => self.append(session),
                8 => self.store_unique(session),
                9 => self.store_shared(session, shared),
                10 => self.rename(session),
                _ => self.delete(session),
            };
            if let Err(end) = done {
                return end;
            }
        }
    }

    /// STOR, of a new name or one that is there.
    fn store(&mut self, session: &mut Session<'_>) -> Result<(), End> {
        let (name, version) = (self.name(), self.choices.version());
        let bytes = bytes(&version);
        self.begin_store(&name, &version);
        session.upload(&format!("STOR {name}"), &bytes)?;
        self.pending = None;
        self.published.insert(name, version);
        Ok(())
    }

    fn begin_store(&mut self, name: &str, version: &Pieces) {
        self.pending = Some(Pending::Store {
            name: name.to_owned(),
            version: version.clone(),
        });
    }

    /// A STOR that breaks, and REST with another for the rest.
    fn resume(&mut self, session: &mut Session<'_>) -> Result<(), End> {
        let (name, version) = (self.name(), self.choices.version());
        if self.published.contains_key(&name) {
            return Ok(());
        }
        let bytes = bytes(&version);
        self.begin_store(&name, &version);
        session.life.count(1, 0);
        let (mut data, _) = session.client.try_start_transfer(format!("STOR {name}"))?;
        let part = self.choices.below(bytes.len() as u64 + 1);
        let sent = data.try_send(&bytes[..usize::try_from(part).unwrap()]);
        drop(data);
        sent.map_err(|_| End::Reset)?;
        let reply = session.client.next_reply()?;
        assert_eq!(reply.code, 426, "{}", reply.text());
        rest(&mut session.client, session.life, &name, &bytes)?;
        self.pending = None;
        self.published.insert(name, version);
        Ok(())
    }

    /// APPE to a file that is published, if there is one of that name.
    fn append(&mut self, session: &mut Session<'_>) -> Result<(), End> {
        let (name, more) = (self.name(), self.choices.version()[0]);
        self.pending = Some(if self.published.contains_key(&name) {
            Pending::Append {
                name: name.clone(),
                more,
            }
        } else {
            Pending::Store {
                name: name.clone(),
                version: vec![more],
            }
        });
        session.upload(&format!("APPE {name}"), &content(more.0, more.1))?;
        self.pending = None;
        self.published.entry(name).or_default().push(more);
        Ok(())
    }

    fn store_unique(&mut self, session: &mut Session<'_>) -> Result<(), End> {
        let version = self.choices.version();
        let bytes = bytes(&version);
        session.life.count(1, 0);
        // Nothing is published before the client knows the name.
        let (data, mark) = session.client.try_start_transfer("STOU")?;
        let text = mark.text();
        let name = text.trim_end().strip_prefix("150 FILE: ").unwrap();
        self.begin_store(name, &version);
        session.send(data, &bytes)?;
        self.pending = None;
        self.published.insert(name.to_owned(), version);
        Ok(())
    }

    /// STOR of a name that others upload to as well.
    fn store_shared(
        &mut self,
        session: &mut Session<'_>,
        shared: &Mutex<Shared>,
    ) -> Result<(), End> {
        let name = format!("shared-{}", self.choices.below(SHARED));
        let version = self.choices.version();
        let bytes = bytes(&version);
        let sent = |shared: &mut Shared| {
            let sent = shared.sent.entry(name.clone()).or_default();
            sent.push(version);
        };
        sent(&mut shared.lock().unwrap());
        session.upload(&format!("STOR {name}"), &bytes)?;
        shared.lock().unwrap().acknowledged.insert(name);
        Ok(())
    }

    /// RNFR and RNTO, over a file that is there or not.
    fn rename(&mut self, session: &mut Session<'_>) -> Result<(), End> {
        let (from, to) = (self.name(), self.name());
        if from == to || !self.published.contains_key(&from) {
            return Ok(());
        }
        self.pending = Some(Pending::Rename {
            from: from.clone(),
            to: to.clone(),
        });
        session.expect(&format!("RNFR {from}"), 350)?;
        session.expect(&format!("RNTO {to}"), 250)?;
        self.pending = None;
        let moved = self.published.remove(&from).unwrap();
        self.published.insert(to, moved);
        Ok(())
    }

    fn delete(&mut self, session: &mut Session<'_>) -> Result<(), End> {
        let name = self.name();
        if !self.published.contains_key(&name) {
            return Ok(());
        }
        self.pending = Some(Pending::Delete { name: name.clone() });
        session.expect(&format!("DELE {name}"), 250)?;
        self.pending = None;
        self.published.remove(&name);
        Ok(())
    }

    /// What may be there now: as it was acknowledged, or as it would be with what was under way.
    fn alternatives(&self, root: &Path) -> Vec<BTreeMap<String, Pieces>> {
        let mut after = self.published.clone();
        match self.pending.clone() {
            None => return vec![after],
            Some(Pending::Store { name, version }) => {
                after.insert(name, version);
            }
            Some(Pending::Append { name, more }) => {
                // As much of it as came: only what was there before was acknowledged.
                let pieces = after.get_mut(&name).unwrap();
                let before = length(pieces);
                let now = fs::metadata(root.join(&name)).map_or(0, |data| data.len());
                let came = usize::try_from(now).unwrap().saturating_sub(before);
                pieces.push((more.0, came.min(more.1)));
            }
            Some(Pending::Rename { from, to }) => {
                let moved = after.remove(&from).unwrap();
                after.insert(to, moved);
            }
            Some(Pending::Delete { name }) => {
                after.remove(&name);
            }
        }
        vec![self.published.clone(), after]
    }

    /// Holds the ledger against what is there, and takes over which of the two it is.
    pub(super) fn verify(&mut self, root: &Path, there: &BTreeMap<String, Digest>) {
        let own = format!("c{}-", self.number);
        let alternatives = self.alternatives(root);
        let known: BTreeSet<&String> = alternatives.iter().flat_map(BTreeMap::keys).collect();
        let there: BTreeMap<&String, &Digest> = there
            .iter()
            .filter(|(name, _)| name.starts_with(&own) || known.contains(name))
            .collect();
        let fits = |expected: &&BTreeMap<String, Pieces>| {
            expected.len() == there.len()
                && expected.iter().all(|(name, pieces)| {
                    there.get(name).is_some_and(|found| {
                        found.1 == length(pieces) as u64 && **found == digest(&bytes(pieces)[..])
                    })
                })
        };
        let found = alternatives.iter().find(fits);
        let sizes: BTreeMap<_, _> = there.iter().map(|(name, it)| (name, it.1)).collect();
        let Some(found) = found else {
            panic!(
                "acknowledged is {:?}, under way was {:?}, and there is {sizes:?}",
                self.published, self.pending
            );
        };
        self.published = found.clone();
    }

    /// After the restart: has what was broken off finished.
    pub(super) fn recover(&mut self, server: &Server, root: &Path, life: &Life) -> Recovered {
        let mut client = Client::ready(server, Version::V13);
        let pending = self.pending.take();
        let recovered = match &pending {
            None => Recovered::Nothing,
            Some(Pending::Store { name, version }) => {
                if self.published.get(name) == Some(version) {
                    return Recovered::Whole;
                }
                let bytes = bytes(version);
                let how = if self.published.contains_key(name) {
                    // The partial has no name beside the file that it was to replace.
                    client.store(format!("STOR {name}"), &bytes);
                    Recovered::Again
                } else {
                    let from = rest(&mut client, life, name, &bytes).unwrap();
                    if from > 0 {
                        Recovered::Resumed
                    } else {
                        Recovered::Again
                    }
                };
                self.published.insert(name.clone(), version.clone());
                how
            }
            Some(Pending::Append { name, more }) => {
                let all = content(more.0, more.1);
                let pieces = self.published.get_mut(name).unwrap();
                let came = match pieces.last() {
                    Some((seed, length)) if *seed == more.0 => {
                        let length = *length;
                        pieces.pop();
                        length
                    }
                    Some(_) | None => 0,
                };
                client.store(format!("APPE {name}"), &all[came..]);
                pieces.push(*more);
                Recovered::Appended
            }
            Some(Pending::Rename { .. } | Pending::Delete { .. }) => Recovered::Nothing,
        };
        if let Some(Pending::Store { name, .. } | Pending::Append { name, .. }) = &pending {
            let found = digest(File::open(root.join(name)).unwrap());
            let expected = digest(&bytes(&self.published[name])[..]);
            assert_eq!(found, expected, "{name} after {recovered:?}");
        }
        recovered
    }
}

/// How an upload came to its end after the restart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Recovered {
    /// Nothing was broken off, or no upload.
    Nothing,
    /// It was published, though not acknowledged.
    Whole,
    /// From the beginning.
    Again,
    /// From the end of the partial.
    Resumed,
    /// In place.
    Appended,
}

/// Goes on with an upload where the server says it is, as clients do: SIZE, REST, STOR. Returns
/// from where.
fn rest(client: &mut Client, life: &Life, name: &str, bytes: &[u8]) -> Result<usize, End> {
    let size = client.try_command(format!("SIZE {name}"))?;
    let from: usize = match size.code {
        213 => size.text()[4..].trim_end().parse().unwrap(),
        550 => 0,
        _ => panic!("SIZE {name}: {}", size.text()),
    };
    assert!(from <= bytes.len(), "{name} is too long");
    if from > 0 {
        let reply = client.try_command(format!("REST {from}"))?;
        assert_eq!(reply.code, 350, "{}", reply.text());
    }
    life.count(1, 0);
    let (mut data, _) = client.try_start_transfer(format!("STOR {name}"))?;
    for piece in bytes[from..].chunks(PIECE) {
        data.try_send(piece).map_err(|_| End::Reset)?;
    }
    data.try_close().map_err(|_| End::Reset)?;
    life.count(0, 1);
    let reply = client.next_reply()?;
    assert_eq!(reply.code, 226, "{}", reply.text());
    Ok(from)
}

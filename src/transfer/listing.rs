//! The text of LIST, NLST and MLSD in pieces, so that memory does not grow with the directory.

use crate::proto::listing::{self, Entry, Format};
use crate::proto::outcome::{FileError, FileErrorKind, TransferError};
use crate::proto::parameters::Rights;
use crate::proto::path::VirtualPath;
use crate::root::{Directory, Found, Root};

/// A listing under way.
pub(super) struct Listing {
    of: Of,
    style: Style,
}

enum Of {
    Directory(Directory, VirtualPath),
    /// LIST and NLST of a file name just that file.
    File(Vec<u8>, Entry),
}

struct Style {
    format: Format,
    prefix: Vec<u8>,
    rights: Rights,
    now: i64,
}

impl Listing {
    pub(super) fn open(
        root: &Root,
        path: &VirtualPath,
        format: Format,
        prefix: &[u8],
        rights: Rights,
        now: i64,
    ) -> Result<Listing, FileError> {
        let mut style = Style {
            format,
            prefix: prefix.to_vec(),
            rights,
            now,
        };
        let of = match (root.list(path), path.name()) {
            (Ok(directory), _) => Of::Directory(directory, path.clone()),
            (Err(error), Some(name))
                if error.kind == FileErrorKind::NotADirectory && !style.is_facts() =>
            {
                // The prefix ends in the file's own name then.
                let name = match style.prefix.strip_suffix(b"/") {
                    Some(given) => given.to_vec(),
                    None => name.to_vec(),
                };
                style.prefix.clear();
                Of::File(name, root.examine(path)?)
            }
            (Err(error), _) => return Err(error),
        };
        Ok(Listing { of, style })
    }

    /// Appends lines until there are about `enough` bytes, and returns whether more may follow.
    pub(super) fn fill(
        &mut self,
        root: &Root,
        lines: &mut Vec<u8>,
        enough: usize,
    ) -> Result<bool, TransferError> {
        let style = &self.style;
        let (directory, path) = match &mut self.of {
            Of::File(name, entry) => {
                style.line(name, Some(entry), lines);
                return Ok(false);
            }
            Of::Directory(directory, path) => (directory, path),
        };
        while lines.len() < enough {
            let more = if style.format == Format::Names {
                directory.next_names(|_, name| style.line(name, None, lines))
            } else {
                directory.next_entries(|name, found| {
                    let entry = match found {
                        Found::Entry(entry) => Some(entry),
                        Found::Link => root.follow(path, name),
                    };
                    if let Some(entry) = entry {
                        style.line(name, Some(&entry), lines);
                    }
                })
            };
            if !more.map_err(TransferError::Local)? {
                return Ok(false);
            }
        }
        Ok(true)
    }
}

impl Style {
    fn is_facts(&self) -> bool {
        matches!(self.format, Format::Facts(_))
    }

    fn line(&self, name: &[u8], entry: Option<&Entry>, lines: &mut Vec<u8>) {
        match (self.format, entry) {
            (Format::Long, Some(entry)) => listing::long_line(name, entry, self.now, lines),
            (Format::Facts(facts), Some(entry)) => {
                listing::facts_line(name, entry, facts, self.rights, lines);
                lines.extend_from_slice(b"\r\n");
            }
            (Format::Names, _) => {
                lines.extend_from_slice(&self.prefix);
                listing::push_name(name, lines);
                lines.extend_from_slice(b"\r\n");
            }
            (Format::Long | Format::Facts(_), None) => {}
        }
    }
}

//! The text of LIST, NLST, MLSD and STAT in pieces, so that memory does not grow with the directory.

use crate::proto::glob::Pattern;
use crate::proto::listing::{self, Entry, Format};
use crate::proto::outcome::{FileError, FileErrorKind};
use crate::proto::parameters::Right;
use crate::proto::path::VirtualPath;
use crate::proto::permissions::Permissions;
use crate::root::{Directory, Found, Root};

/// A listing under way.
pub(super) struct Listing {
    of: Of,
    style: Style,
    /// Why an entry is not in it.
    lacking: Option<FileError>,
}

enum Of {
    Directory(Directory),
    /// LIST and NLST of a file name just that file.
    File(Vec<u8>, Entry),
}

struct Style {
    /// Where the entries are.
    directory: VirtualPath,
    format: Format,
    prefix: Vec<u8>,
    /// Which names of the directory are meant; all where there is none.
    pattern: Option<Pattern>,
    permissions: Permissions,
    now: i64,
}

impl Listing {
    /// A file or directory that has a pattern as its name is what the pattern means.
    /// A pattern that nothing matches is an empty listing, as an empty directory is: to a client
    /// that polls for files 450 and 550 would be failures (RFC 959 section 5.4 has 450 here).
    pub(super) fn open(
        root: &Root,
        path: &VirtualPath,
        format: Format,
        prefix: &[u8],
        pattern: Option<&Pattern>,
        permissions: &Permissions,
        now: i64,
    ) -> Result<Listing, FileError> {
        let mut style = Style {
            directory: path.clone(),
            format,
            prefix: prefix.to_vec(),
            pattern: None,
            permissions: permissions.clone(),
            now,
        };
        let of = match (root.list(path), path.name()) {
            (Ok(directory), _) => Of::Directory(directory),
            (Err(error), Some(name))
                if error.kind == FileErrorKind::NotADirectory && !style.is_facts() =>
            {
                // The prefix ends in the file's own name then.
                let name = match style.prefix.strip_suffix(b"/") {
                    Some(given) => given.to_vec(),
                    None => name.to_vec(),
                };
                style.prefix.clear();
                style.directory = path.parent();
                Of::File(name, root.examine(path)?)
            }
            (Err(error), _) => match (error.kind, pattern) {
                // Some file systems cannot even be asked for such a name.
                // A share may have such a name and other rights than the root.
                (FileErrorKind::NotFound | FileErrorKind::NameInvalid, Some(pattern))
                    if permissions.rights(&path.parent()).allow(Right::List) =>
                {
                    style.prefix = pattern.directory().to_vec();
                    style.pattern = Some(pattern.clone());
                    style.directory = path.parent();
                    Of::Directory(root.list(&style.directory)?)
                }
                (_, _) => return Err(error),
            },
        };
        Ok(Listing {
            of,
            style,
            lacking: None,
        })
    }

    /// Whether it is of a directory's entries.
    pub(super) fn is_of_directory(&self) -> bool {
        matches!(self.of, Of::Directory(_))
    }

    /// Appends lines until there are about `enough` bytes, and returns whether more may follow.
    /// With a pattern there may be few or none: whoever waits has to be heard meanwhile, however
    /// large the directory is in which nothing matches.
    ///
    /// # Errors
    /// What keeps the directory from being read; and at the end, why an entry is lacking: a listing
    /// without it would look whole, and who mirrors by it would remove the file.
    pub(super) fn fill(
        &mut self,
        root: &Root,
        lines: &mut Vec<u8>,
        enough: usize,
    ) -> Result<bool, FileError> {
        let style = &self.style;
        let directory = match &mut self.of {
            Of::File(name, entry) => {
                style.line(name, Some(entry), lines);
                return Ok(false);
            }
            Of::Directory(directory) => directory,
        };
        while lines.len() < enough {
            let more = if style.format == Format::Names {
                directory.next_names(|_, name| {
                    if style.wants(name) {
                        style.line(name, None, lines);
                    }
                })
            } else {
                let lacking = &mut self.lacking;
                let each = |name: &[u8], found| {
                    let entry = match found {
                        Found::Entry(entry) => Ok(Some(entry)),
                        Found::Link => root.follow(&style.directory, name),
                        Found::Unknown(error) => Err(error),
                    };
                    match entry {
                        Ok(Some(entry)) => style.line(name, Some(&entry), lines),
                        Ok(None) => {}
                        Err(error) => *lacking = Some(error),
                    }
                };
                directory.next_entries(|name| style.wants(name), each)
            };
            if !more? {
                return self.lacking.map_or(Ok(false), Err);
            }
            if style.pattern.is_some() {
                break;
            }
        }
        Ok(true)
    }
}

impl Style {
    fn is_facts(&self) -> bool {
        matches!(self.format, Format::Facts(_))
    }

    fn wants(&self, name: &[u8]) -> bool {
        let pattern = self.pattern.as_ref();
        pattern.is_none_or(|pattern| pattern.matches(name))
    }

    fn line(&self, name: &[u8], entry: Option<&Entry>, lines: &mut Vec<u8>) {
        match (self.format, entry) {
            (Format::Long, Some(entry)) => listing::long_line(name, entry, self.now, lines),
            (Format::Facts(facts), Some(entry)) => {
                let standing = self.permissions.standing_of_entry(&self.directory, name);
                listing::facts_line(name, entry, facts, standing, lines);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proto::parameters::Rights;

    fn fills(root: &Root, argument: &[u8]) -> (usize, Vec<u8>) {
        let path = VirtualPath::root().join(argument).unwrap();
        let pattern = Pattern::of(argument);
        let opened = Listing::open(
            root,
            &path,
            Format::Names,
            b"",
            pattern.as_ref(),
            &Rights::FULL.into(),
            0,
        );
        let (mut listing, mut text, mut pieces) = (opened.unwrap(), Vec::new(), 1);
        loop {
            let mut lines = Vec::new();
            let more = listing.fill(root, &mut lines, 32 << 10).unwrap();
            text.append(&mut lines);
            if !more {
                return (pieces, text);
            }
            pieces += 1;
        }
    }

    #[test]
    fn a_share_named_like_a_pattern_shows_nothing_of_the_root() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("abc"), "").unwrap();
        let storage = crate::config::storage::Storage::default();
        let root = Root::open(place.path(), "anna", storage).unwrap();
        let path = VirtualPath::root().join(b"a*").unwrap();
        let pattern = Pattern::of(b"a*");
        let none = Permissions::from(Rights::default()).with_share(b"a*", Rights::FULL);
        for (permissions, shown) in [(none, false), (Rights::READ_ONLY.into(), true)] {
            let format = Format::Long;
            let pattern = pattern.as_ref();
            let opened = Listing::open(&root, &path, format, b"", pattern, &permissions, 0);
            assert_eq!(opened.is_ok(), shown);
        }
    }

    #[test]
    fn a_pattern_that_nothing_matches_comes_in_pieces_too() {
        let place = tempfile::tempdir().unwrap();
        for number in 0..1000 {
            std::fs::write(place.path().join(format!("{number:0100}")), "").unwrap();
        }
        let root = Root::open(
            place.path(),
            "anna",
            crate::config::storage::Storage::default(),
        )
        .unwrap();
        let (pieces, text) = fills(&root, b"*x");
        assert_eq!(text, b"");
        assert!(pieces > 10, "{pieces}");
        let (pieces, text) = fills(&root, b"*7");
        assert_eq!(text.len(), 100 * 102);
        assert!(pieces > 10, "{pieces}");
    }
}

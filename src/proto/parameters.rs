//! Transfer parameters, protection of the data connection, and a user's rights.

/// Representation type (RFC 959 section 3.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Type {
    /// No TYPE was sent: bytes go untranslated, so that a client which never sends TYPE gets
    /// what the file holds.
    #[default]
    Untold,
    /// TYPE A: line ends are translated.
    Ascii,
    /// TYPE I, and TYPE L 8 which means the same here.
    Image,
}

/// Data channel protection level (RFC 4217 section 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protection {
    /// PROT C: clear.
    Clear,
    /// PROT P: private, that is TLS.
    Private,
}

/// One thing that a user may or may not do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Download, HASH; SIZE and MDTM, which [`List`](Self::List) allows too.
    Read,
    /// See names and facts: LIST, NLST, MLSD, MLST, STAT, SIZE, MDTM.
    List,
    /// Upload under a name that is not there yet.
    Write,
    /// Replace a published file; set its time by MFMT.
    Overwrite,
    /// Add to the end of a published file.
    Append,
    /// Remove files and directories.
    Delete,
    /// Rename files and directories.
    Rename,
    /// Make directories.
    Mkdir,
}

impl Right {
    /// Every right with its name in the configuration.
    pub const ALL: [(Right, &'static str); 8] = [
        (Right::Read, "read"),
        (Right::List, "list"),
        (Right::Write, "write"),
        (Right::Overwrite, "overwrite"),
        (Right::Append, "append"),
        (Right::Delete, "delete"),
        (Right::Rename, "rename"),
        (Right::Mkdir, "mkdir"),
    ];
}

/// The set of a user's rights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Rights(u8);

impl Rights {
    /// Everything.
    pub const FULL: Rights = Rights(u8::MAX);
    /// Look and download, change nothing.
    pub const READ_ONLY: Rights = Rights(1 << Right::Read as u8 | 1 << Right::List as u8);
    /// Put new files and directories in, see what is there, read and change nothing.
    pub const UPLOAD_ONLY: Rights =
        Rights(1 << Right::Write as u8 | 1 << Right::List as u8 | 1 << Right::Mkdir as u8);

    /// The set with `right` in it as well.
    #[must_use]
    pub fn with(self, right: Right) -> Rights {
        Rights(self.0 | 1 << right as u8)
    }

    /// Whether `right` is in the set.
    pub fn allow(self, right: Right) -> bool {
        self.0 & (1 << right as u8) != 0
    }
}

/// Which facts MLST and MLSD print, chosen by OPTS MLST (RFC 3659 section 7.9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Facts(u8);

impl Facts {
    /// The facts there are, in the order they are printed.
    pub const NAMES: [&'static str; 5] = ["type", "size", "modify", "perm", "UNIX.mode"];
    /// All of them, as a session starts.
    pub const ALL: Facts = Facts(u8::MAX);

    /// The facts named in `list`, which separates them by `;`. Unknown ones are left out.
    pub fn parse(list: &[u8]) -> Facts {
        let mut set = 0;
        for wanted in list.split(|&byte| byte == b';') {
            for (index, name) in Facts::NAMES.iter().enumerate() {
                if wanted.eq_ignore_ascii_case(name.as_bytes()) {
                    set |= 1 << index;
                }
            }
        }
        Facts(set)
    }

    /// Whether the fact at this place of [`NAMES`](Self::NAMES) is printed.
    pub fn has(self, index: usize) -> bool {
        self.0 >> index & 1 == 1
    }

    /// As FEAT and the reply to OPTS show them: chosen ones followed by `star`, then `;`.
    pub fn describe(self, all: bool, star: &str) -> String {
        let mut text = String::new();
        for (index, name) in Facts::NAMES.iter().enumerate() {
            if self.has(index) || all {
                text.push_str(name);
                if self.has(index) {
                    text.push_str(star);
                }
                text.push(';');
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets() {
        for (right, name) in Right::ALL {
            assert!(Rights::FULL.allow(right), "{name}");
            assert!(!Rights::default().allow(right), "{name}");
            assert!(Rights::default().with(right).allow(right), "{name}");
        }
        assert!(!Rights::READ_ONLY.allow(Right::Write));
        assert!(!Rights::UPLOAD_ONLY.allow(Right::Read));
        assert!(!Rights::UPLOAD_ONLY.allow(Right::Overwrite));
    }

    #[test]
    fn facts() {
        let chosen = Facts::parse(b"Size;modify;nonsense;");
        assert_eq!(chosen.describe(false, ""), "size;modify;");
        assert_eq!(
            chosen.describe(true, "*"),
            "type;size*;modify*;perm;UNIX.mode;"
        );
    }
}

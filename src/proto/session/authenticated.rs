//! After the login: the working directory, transfer parameters, and which work a command means.

use super::access::name_user;
use super::transfer::{StoreRequest, Transfer, TransferTask};
use super::work::{Examine, FileTask, FileWork, Listen, Passive, Work};
use super::{Channel, DataProtection, Manner, Policy, Session, Step};
use crate::proto::command::{Command, CommandError, Mode, NetworkProtocol, Structure};
use crate::proto::directive::Directive;
use crate::proto::glob::Pattern;
use crate::proto::listing::Format;
use crate::proto::outcome::{FileError, FileErrorKind};
use crate::proto::parameters::{Protection, Right, Type};
use crate::proto::path::{PathError, VirtualPath};
use crate::proto::permissions::Permissions;
use crate::proto::reply::Reply;

/// A user is logged in.
#[derive(Debug)]
pub struct Authenticated {
    pub(super) channel: Channel,
    pub(super) manner: Manner,
    pub(super) permissions: Permissions,
    pub(super) directory: VirtualPath,
    pub(super) representation: Type,
    pub(super) prefix: Prefix,
    /// The unfinished upload that the client has asked about last, and how long it was said to be.
    pub(super) told: Option<(VirtualPath, u64)>,
    pub(super) endpoint: Option<Endpoint>,
    pub(super) extended_only: bool,
}

/// Where the next data connection comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Endpoint {
    /// PASV or EPSV: the client connects.
    Passive,
    /// PORT or EPRT: the server connects to this port at the client's address.
    Active(u16),
}

/// What a command left for the one after it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Prefix {
    /// Nothing.
    None,
    /// REST and ALLO: what they say about the next transfer.
    Ahead(Ahead),
    /// RNFR: the next command must be RNTO.
    RenameFrom(VirtualPath),
}

/// What is known about the next transfer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Ahead {
    /// REST: it starts at this byte.
    pub(super) restart: u64,
    /// ALLO: so many bytes will be sent.
    pub(super) allocated: Option<u64>,
}

impl Authenticated {
    pub(super) fn new(channel: Channel, manner: Manner, permissions: Permissions) -> Authenticated {
        Authenticated {
            channel,
            manner: Manner {
                login_failures: 0,
                ..manner
            },
            permissions,
            directory: VirtualPath::root(),
            representation: Type::default(),
            prefix: Prefix::None,
            told: None,
            endpoint: None,
            extended_only: false,
        }
    }

    pub(super) fn decide(mut self, command: Command, policy: &Policy) -> Step {
        // Taken here once, so that no arm can forget it; the few that keep it put it back.
        let prefix = std::mem::replace(&mut self.prefix, Prefix::None);
        match command {
            Command::User(name) => name_user(self.channel, self.manner, name),
            Command::Pass(_) => self.reply(Reply::bad_sequence("You are logged in already.")),
            // RFC 959 section 5.4 and RFC 1123 section 4.1.2.13: known, and not needed.
            Command::Pwd => {
                let reply = Reply::pathname(self.directory.as_bytes(), "is the directory.");
                self.reply(reply)
            }
            Command::Cwd(path) => {
                self.on_path(&path, |_, path| Ok(FileTask::ChangeDirectory(path)))
            }
            Command::Cdup => {
                let parent = self.directory.parent();
                self.file(FileTask::ChangeDirectory(parent))
            }
            Command::Size(_) if self.representation == Type::Ascii => {
                // RFC 3659 section 4.3: the size of what would be sent; it takes a scan to know.
                self.reply(Reply::new(550, "SIZE needs TYPE I.").because(Directive::ASCII))
            }
            Command::Size(path) => self.examine(&path, Examine::Size),
            Command::Mdtm(path) => self.examine(&path, Examine::Modified),
            Command::Mfmt(seconds, name) => self.change(&name.clone(), Right::Overwrite, |path| {
                FileTask::SetModified {
                    path,
                    seconds,
                    name,
                }
            }),
            Command::Hash(name) => self.hash(name),
            Command::Mlst(path) => self.examine(&path, Examine::Facts),
            Command::Dele(path) => self.change(&path, Right::Delete, FileTask::Delete),
            Command::Mkd(path) => self.change(&path, Right::Mkdir, FileTask::MakeDirectory),
            Command::Rmd(path) => self.change(&path, Right::Delete, FileTask::RemoveDirectory),
            Command::Rnfr(path) => self.change(&path, Right::Rename, |path| FileTask::Examine {
                path,
                purpose: Examine::RenameFrom,
            }),
            Command::Rnto(path) => match prefix {
                Prefix::RenameFrom(from) => self.rename(from, &path),
                Prefix::None | Prefix::Ahead(_) => {
                    self.reply(Reply::bad_sequence("Send RNFR first."))
                }
            },

            Command::Type(representation) => {
                self.prefix = prefix.ahead_only();
                self.representation = if representation == Type::Ascii && !policy.ascii {
                    Type::Image
                } else {
                    representation
                };
                self.reply(Reply::new(200, "Type set."))
            }
            Command::Mode(Mode::Stream) => self.reply(Reply::new(200, "Mode S.")),
            Command::Mode(Mode::Other) => self.reply(Reply::new(504, "This server knows MODE S.")),
            Command::Stru(Structure::File) => self.reply(Reply::new(200, "Structure F.")),
            Command::Stru(Structure::Other) => {
                self.reply(Reply::new(504, "This server knows STRU F."))
            }
            Command::Allo(bytes) => {
                self.prefix = Prefix::Ahead(Ahead {
                    allocated: Some(bytes),
                    ..prefix.ahead()
                });
                self.reply(Reply::new(202, "No need to reserve room."))
            }
            Command::Rest(offset) => {
                self.prefix = Prefix::Ahead(Ahead {
                    restart: offset,
                    ..prefix.ahead()
                });
                self.reply(Reply::with_text(
                    350,
                    format!("The next transfer starts at byte {offset}."),
                ))
            }
            Command::Pasv => {
                self.prefix = prefix.ahead_only();
                if self.extended_only {
                    self.reply(Reply::bad_sequence("EPSV ALL was sent: only EPSV now."))
                } else if policy.ipv6 {
                    self.reply(Reply::new(425, "PASV has no form for IPv6: use EPSV."))
                } else {
                    self.listen(Passive::Pasv)
                }
            }
            Command::Epsv(protocol) => {
                self.prefix = prefix.ahead_only();
                self.extended_passive(protocol, policy)
            }
            Command::Port(address) => {
                self.prefix = prefix.ahead_only();
                self.active(Some(address), false, policy)
            }
            Command::Eprt(address) => {
                self.prefix = prefix.ahead_only();
                self.active(address, true, policy)
            }

            Command::Retr(path) => self.retrieve(&path, &prefix),
            Command::Stor(path) => self.store(&path, prefix, false),
            Command::Stou => self.store_unique(&prefix),
            Command::Appe(path) => self.store(&path, prefix, true),
            Command::List(path) => self.list(&path, Format::Long),
            Command::Nlst(path) => self.list(&path, Format::Names),
            Command::Mlsd(path) => {
                let facts = self.manner.facts;
                self.list(&path, Format::Facts(facts))
            }
            // RFC 959 section 4.1.3: with no transfer under way ABOR succeeds.
            Command::Abor => {
                self.endpoint = None;
                self.reply(Reply::new(226, "No transfer is under way."))
            }
            Command::Stat(Some(path)) => self.status(&path),
            Command::Stat(None) => {
                let reply = self.describe();
                self.reply(reply)
            }

            Command::Noop
            | Command::Feat
            | Command::Help(_)
            | Command::Syst
            | Command::Clnt
            | Command::Opts(_)
            | Command::Auth(_)
            | Command::Pbsz(_)
            | Command::Prot(_)
            | Command::Ccc
            | Command::Rein
            | Command::Quit => {
                let reply = self.manner.answer(&command, Some(self.channel), policy);
                self.reply(reply)
            }
        }
    }

    /// What a line that is no command leaves of a prefix. RNFR has to be followed by RNTO. REST
    /// stays after a verb that is left out; a known verb gone wrong may have been a REST.
    pub(super) fn forget(&mut self, error: CommandError) {
        let prefix = std::mem::replace(&mut self.prefix, Prefix::None);
        self.prefix = match error {
            CommandError::Unknown | CommandError::NotImplemented => prefix.ahead_only(),
            CommandError::Syntax(_) | CommandError::Parameter(_) | CommandError::TooLong => {
                Prefix::None
            }
        };
    }

    pub(super) fn reply(self, reply: Reply) -> Step {
        Step::Reply(Session::Authenticated(self), reply)
    }

    fn file(self, task: FileTask) -> Step {
        Step::Perform(Work::File(FileWork::new(self, task)))
    }

    fn listen(self, how: Passive) -> Step {
        Step::Perform(Work::Listen(Listen::new(self, how)))
    }

    /// EPSV: RFC 2428 section 3.
    fn extended_passive(mut self, protocol: NetworkProtocol, policy: &Policy) -> Step {
        match (protocol, policy.ipv6) {
            (NetworkProtocol::All, _) => {
                self.extended_only = true;
                if let Some(Endpoint::Active(_)) = self.endpoint {
                    self.endpoint = None;
                }
                self.reply(Reply::new(200, "Only EPSV from now on."))
            }
            (NetworkProtocol::Same, _)
            | (NetworkProtocol::Ipv4, false)
            | (NetworkProtocol::Ipv6, true) => self.listen(Passive::Epsv),
            (NetworkProtocol::Ipv4 | NetworkProtocol::Other, true) => {
                self.reply(Reply::new(522, "Network protocol not supported, use (2)"))
            }
            (NetworkProtocol::Ipv6 | NetworkProtocol::Other, false) => {
                self.reply(Reply::new(522, "Network protocol not supported, use (1)"))
            }
        }
    }

    /// How a data connection is to travel; `None` where it would be in clear text and that is
    /// not permitted.
    pub(super) fn data_protection(&self) -> Option<DataProtection> {
        match self.manner.protection {
            Protection::Private => Some(DataProtection::Private),
            Protection::Clear => self.manner.plain.map(DataProtection::Clear),
        }
    }

    fn retrieve(self, path: &[u8], prefix: &Prefix) -> Step {
        self.transfer(path, |session, path| {
            session.demand(Right::Read, &path)?;
            let offset = session.restart_offset(prefix)?;
            Ok(TransferTask::Retrieve {
                path,
                offset,
                ascii: session.representation == Type::Ascii,
            })
        })
    }

    fn store(self, path: &[u8], prefix: Prefix, append: bool) -> Step {
        self.transfer(path, |session, path| {
            let other = if append {
                Right::Append
            } else {
                Right::Overwrite
            };
            let rights = session.permissions.rights(&path);
            if !rights.allow(other) {
                session.demand(Right::Write, &path)?;
            }
            if session.permissions.is_share(&path) {
                return Err(FileError::new(FileErrorKind::NotAFile).reply_to_name());
            }
            let restart = session.restart_offset(&prefix)?;
            let goes_on = append || restart > 0;
            let told = session.told.as_ref();
            let told = told.filter(|(told, _)| goes_on && *told == path);
            let told = told.map(|(_, length)| *length);
            Ok(TransferTask::Store {
                path,
                request: StoreRequest {
                    told,
                    // RFC 3659 section 5.4: REST before STOR; APPE has its own place, the end.
                    offset: if append { None } else { Some(restart) },
                    new: rights.allow(Right::Write),
                    overwrite: rights.allow(Right::Overwrite),
                    append: rights.allow(Right::Append),
                },
                ascii: session.representation == Type::Ascii,
                allocated: prefix.ahead().allocated,
            })
        })
    }

    fn list(self, path: &[u8], format: Format) -> Step {
        // NLST of a directory keeps its prefix, so that the names can be used as they come.
        let prefix = match (format, path) {
            (Format::Long | Format::Facts(_), _) | (Format::Names, b"") => Vec::new(),
            (Format::Names, path) if path.ends_with(b"/") => path.to_vec(),
            (Format::Names, path) => [path, b"/"].concat(),
        };
        // RFC 3659 section 7.1 gives MLSD no wildcards.
        let pattern = match format {
            Format::Long | Format::Names => Pattern::of(path),
            Format::Facts(_) => None,
        };
        self.transfer(path, |session, path| {
            session.demand(Right::List, &path)?;
            Ok(TransferTask::List {
                path,
                format,
                prefix,
                pattern,
                permissions: session.permissions.clone(),
            })
        })
    }

    /// Rights and path first, then what RFC 4217 section 9 and RFC 959 ask of the data connection.
    fn transfer(
        mut self,
        path: &[u8],
        task: impl FnOnce(&Authenticated, VirtualPath) -> Result<TransferTask, Reply>,
    ) -> Step {
        let task = match self.resolve(path).and_then(|path| task(&self, path)) {
            Ok(task) => task,
            Err(reply) => return self.reply(reply),
        };
        match self.use_data_connection() {
            Ok((endpoint, protection)) => Step::Perform(Work::Transfer(Transfer::new(
                self, task, endpoint, protection,
            ))),
            Err(reply) => self.reply(reply),
        }
    }

    /// Where the data connection of the transfer that begins comes from, and how it travels.
    pub(super) fn use_data_connection(&mut self) -> Result<(Endpoint, DataProtection), Reply> {
        let Some(protection) = self.data_protection() else {
            return Err(Reply::new(
                521,
                "Data connections must be private: send PBSZ 0 and PROT P (encrypt data too).",
            )
            .because(Directive::PLAIN_FROM));
        };
        let Some(endpoint) = self.endpoint.take() else {
            return Err(Reply::new(425, "Send PASV or EPSV first."));
        };
        Ok((endpoint, protection))
    }

    fn examine(self, path: &[u8], purpose: Examine) -> Step {
        self.on_path(path, |session, path| {
            let listed = session.permissions.rights(&path).allow(Right::List);
            let right = match purpose {
                // Whoever may list sees them there.
                Examine::Size | Examine::Modified if !listed => Right::Read,
                Examine::Size | Examine::Modified | Examine::Facts => Right::List,
                Examine::RenameFrom => Right::Rename,
            };
            session.demand(right, &path)?;
            Ok(FileTask::Examine { path, purpose })
        })
    }

    fn change(self, path: &[u8], right: Right, task: impl FnOnce(VirtualPath) -> FileTask) -> Step {
        self.on_path(path, |session, path| {
            session.demand(right, &path)?;
            if session.permissions.standing(&path).fixed {
                return Err(FileError::new(FileErrorKind::Denied).reply());
            }
            Ok(task(path))
        })
    }

    /// RNTO. A share is another place than the root, even on the same file system.
    fn rename(self, from: VirtualPath, path: &[u8]) -> Step {
        self.on_path(path, |session, to| {
            session.demand(Right::Rename, &to)?;
            if to.is_root() {
                return Err(FileError::new(FileErrorKind::Denied).reply());
            }
            if session.permissions.is_share(&to) {
                return Err(FileError::new(FileErrorKind::Exists).reply_to_name());
            }
            if !session.permissions.are_in_one_place(&from, &to) {
                return Err(Reply::new(
                    553,
                    "A share is another place: send the file there instead.",
                ));
            }
            let replace = session.permissions.rights(&to).allow(Right::Overwrite);
            Ok(FileTask::Rename { from, to, replace })
        })
    }

    fn on_path(
        self,
        path: &[u8],
        task: impl FnOnce(&Authenticated, VirtualPath) -> Result<FileTask, Reply>,
    ) -> Step {
        match self.resolve(path).and_then(|path| task(&self, path)) {
            Ok(task) => self.file(task),
            Err(reply) => self.reply(reply),
        }
    }

    pub(super) fn resolve(&self, path: &[u8]) -> Result<VirtualPath, Reply> {
        self.directory.join(path).map_err(|error| match error {
            PathError::ForbiddenByte => Reply::new(501, "A pathname holds no line end and no NUL."),
            PathError::TooLong => Reply::new(
                553,
                "The pathname is too long: 255 bytes a name, 4095 in all.",
            ),
            PathError::Reserved => {
                Reply::new(553, "That name belongs to the server: choose another.")
            }
        })
    }

    /// Refuses what the user may not do at the place where `path` is.
    pub(super) fn demand(&self, right: Right, path: &VirtualPath) -> Result<(), Reply> {
        if self.permissions.rights(path).allow(right) {
            return Ok(());
        }
        Err(self.no_right(550, right, path))
    }

    /// The reply to somebody whose `access` at the place of `path` does not have this right.
    pub(super) fn no_right(&self, code: u16, right: Right, path: &VirtualPath) -> Reply {
        let what = match right {
            Right::Read => "download",
            Right::List => "list",
            Right::Write => "upload",
            Right::Overwrite => "replace files",
            Right::Append => "append",
            Right::Delete => "delete",
            Right::Rename => "rename",
            Right::Mkdir => "make directories",
        };
        let text = format!("This account may not {what} here: ask the administrator (access).");
        Reply::with_text(code, text).because(self.permissions.directive(path))
    }

    /// Where REST said to start. RFC 3659 section 5.3 counts translated bytes in TYPE A, which
    /// no client means; RFC 1123 section 4.1.3.4 has 555 where REST and TYPE do not go together.
    pub(super) fn restart_offset(&self, prefix: &Prefix) -> Result<u64, Reply> {
        match prefix.ahead().restart {
            1.. if self.representation == Type::Ascii => {
                Err(Reply::new(555, "REST needs TYPE I.").because(Directive::ASCII))
            }
            offset => Ok(offset),
        }
    }
}

impl Prefix {
    /// What REST and ALLO said.
    pub(super) fn ahead(&self) -> Ahead {
        match self {
            Prefix::Ahead(ahead) => *ahead,
            Prefix::None | Prefix::RenameFrom(_) => Ahead::default(),
        }
    }

    /// What is left of it after a command that REST and ALLO survive and RNFR does not.
    fn ahead_only(self) -> Prefix {
        match self {
            Prefix::Ahead(ahead) => Prefix::Ahead(ahead),
            Prefix::None | Prefix::RenameFrom(_) => Prefix::None,
        }
    }
}

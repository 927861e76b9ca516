//! Commands: a line turned into a verb with an argument of the right kind.
//!
//! RFC 959 section 4.1 and 5.3, RFC 2228, 2389, 2428, 3659, 4217, draft-somers-ftp-mfxx,
//! draft-bryan-ftpext-hash.

use std::fmt;
use std::net::SocketAddr;

use super::hostport::{self, ExtendedPortError};
use super::listing;
use super::parameters::Type;

/// A password as the client sent it. It cannot be printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(Vec<u8>);

impl Password {
    /// Wraps the bytes that a client, or a person at a prompt, gave.
    pub fn new(bytes: Vec<u8>) -> Password {
        Password(bytes)
    }

    /// The bytes, for the hash function alone.
    pub fn expose(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(..)")
    }
}

/// A command that this server knows, named after its verb. `XCWD` and its kind (RFC 775) are
/// the verbs they stand for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    User(Vec<u8>),
    Pass(Password),
    Quit,
    Auth(Mechanism),
    Pbsz(u32),
    Prot(ProtLevel),
    Ccc,
    Rein,
    Feat,
    Opts(Options),
    /// With a verb, or with nothing.
    Help(Vec<u8>),
    Syst,
    /// With the pathname, or alone.
    Stat(Option<Vec<u8>>),
    Noop,
    Clnt,
    Cwd(Vec<u8>),
    Cdup,
    Pwd,
    Type(Type),
    Mode(Mode),
    Stru(Structure),
    Allo(u64),
    Rest(u64),
    Pasv,
    Epsv(NetworkProtocol),
    Port(SocketAddr),
    /// `None` is a network protocol other than 1 and 2.
    Eprt(Option<SocketAddr>),
    Retr(Vec<u8>),
    Stor(Vec<u8>),
    Stou,
    Appe(Vec<u8>),
    Abor,
    List(Vec<u8>),
    Nlst(Vec<u8>),
    Mlsd(Vec<u8>),
    Mlst(Vec<u8>),
    Size(Vec<u8>),
    Mdtm(Vec<u8>),
    /// Seconds since 1970 in UTC, and the pathname.
    Mfmt(i64, Vec<u8>),
    Hash(Vec<u8>),
    Dele(Vec<u8>),
    Rnfr(Vec<u8>),
    Rnto(Vec<u8>),
    Mkd(Vec<u8>),
    Rmd(Vec<u8>),
}

/// Security mechanism of AUTH (RFC 4217 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mechanism {
    /// `TLS`, or its other name `TLS-C`.
    Tls,
    /// Anything else.
    Other,
}

/// Argument of PROT (RFC 2228 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProtLevel {
    /// `C`.
    Clear,
    /// `P`.
    Private,
    /// `S` or `E`, which TLS does not have.
    SafeOrConfidential,
    /// Anything else.
    Unknown,
}

/// Argument of MODE (RFC 959 section 3.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// `S`.
    Stream,
    /// `B` or `C`, or `Z` which others have.
    Other,
}

/// Argument of STRU (RFC 959 section 3.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Structure {
    /// `F`.
    File,
    /// `R` or `P`.
    Other,
}

/// Argument of EPSV (RFC 2428 section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NetworkProtocol {
    /// No argument: the control connection's own.
    Same,
    /// `1`.
    Ipv4,
    /// `2`.
    Ipv6,
    /// `ALL`: from now on nothing but EPSV.
    All,
    /// Another number.
    Other,
}

/// Argument of OPTS (RFC 2389 section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Options {
    /// `UTF8 ON`, or `UTF8` alone.
    Utf8On,
    /// `MLST` with the facts wanted.
    Mlst(Vec<u8>),
    /// `HASH` with the algorithm wanted, or with nothing.
    Hash(Vec<u8>),
    /// Anything else.
    Other,
}

/// Why a line is no command of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommandError {
    /// No such verb (500).
    Unknown,
    /// A verb of the RFCs that this server leaves out (502).
    NotImplemented,
    /// A known verb with an argument it cannot have (501), with its right form.
    Syntax(&'static str),
    /// A known verb with a parameter that this server leaves out (504).
    Parameter(&'static str),
    /// The line was longer than [`LIMIT`](super::line::LIMIT) (500).
    TooLong,
}

/// The verbs of the RFCs that are deliberately left out, answered 502 instead of 500.
const LEFT_OUT: [&str; 17] = [
    "ACCT", "ADAT", "CONF", "ENC", "HOST", "LANG", "LPRT", "LPSV", "MIC", "MFCT", "MFF", "SITE",
    "SMNT", "XRCP", "XRSQ", "AVBL", "CSID",
];

impl Command {
    /// Reads one line without its line end.
    pub fn parse(line: &[u8]) -> Result<Command, CommandError> {
        let space = line.iter().position(|&byte| byte == b' ');
        let (verb, argument) = match space {
            Some(at) => (
                line.get(..at).unwrap_or_default(),
                line.get(at.saturating_add(1)..).unwrap_or_default(),
            ),
            None => (line, &b""[..]),
        };
        let verb = verb.to_ascii_uppercase();
        let verb = std::str::from_utf8(&verb).map_err(|_| CommandError::Unknown)?;
        Ok(match verb {
            "USER" => Command::User(needed(argument, "USER name")?),
            "PASS" => Command::Pass(Password(argument.to_vec())),
            "QUIT" => Command::Quit,
            "AUTH" => Command::Auth(
                match &needed(argument, "AUTH TLS")?.to_ascii_uppercase()[..] {
                    b"TLS" | b"TLS-C" => Mechanism::Tls,
                    _ => Mechanism::Other,
                },
            ),
            // RFC 2228 section 3: 501 past 32 bits.
            "PBSZ" => Command::Pbsz(
                u32::try_from(number(argument, "PBSZ 0")?)
                    .map_err(|_| CommandError::Syntax("PBSZ 0"))?,
            ),
            "PROT" => Command::Prot(
                match &needed(argument, "PROT P")?.to_ascii_uppercase()[..] {
                    b"C" => ProtLevel::Clear,
                    b"P" => ProtLevel::Private,
                    b"S" | b"E" => ProtLevel::SafeOrConfidential,
                    _ => ProtLevel::Unknown,
                },
            ),
            "CCC" => Command::Ccc,
            "REIN" => Command::Rein,
            "FEAT" => Command::Feat,
            "OPTS" => Command::Opts(options(&needed(argument, "OPTS name value")?)),
            "HELP" => Command::Help(argument.to_vec()),
            "SYST" => Command::Syst,
            "STAT" if argument.is_empty() => Command::Stat(None),
            "STAT" => Command::Stat(Some(without_options(argument).to_vec())),
            "NOOP" => Command::Noop,
            "CLNT" => Command::Clnt,
            "CWD" | "XCWD" => Command::Cwd(needed(argument, "CWD pathname")?),
            "CDUP" | "XCUP" => Command::Cdup,
            "PWD" | "XPWD" => Command::Pwd,
            "TYPE" => Command::Type(representation(argument)?),
            "MODE" => Command::Mode(
                match &needed(argument, "MODE S")?.to_ascii_uppercase()[..] {
                    b"S" => Mode::Stream,
                    b"B" | b"C" | b"Z" => Mode::Other,
                    _ => return Err(CommandError::Syntax("MODE S")),
                },
            ),
            "STRU" => Command::Stru(
                match &needed(argument, "STRU F")?.to_ascii_uppercase()[..] {
                    b"F" => Structure::File,
                    b"R" | b"P" => Structure::Other,
                    _ => return Err(CommandError::Syntax("STRU F")),
                },
            ),
            "ALLO" => Command::Allo(allocation(argument)?),
            "REST" => Command::Rest(number(argument, "REST bytes")?),
            "PASV" => Command::Pasv,
            "EPSV" => Command::Epsv(match &argument.to_ascii_uppercase()[..] {
                b"" => NetworkProtocol::Same,
                b"1" => NetworkProtocol::Ipv4,
                b"2" => NetworkProtocol::Ipv6,
                b"ALL" => NetworkProtocol::All,
                other if other.iter().all(u8::is_ascii_digit) => NetworkProtocol::Other,
                _ => return Err(CommandError::Syntax("EPSV, EPSV 1, EPSV 2 or EPSV ALL")),
            }),
            "PORT" => Command::Port(
                hostport::parse_port(argument)
                    .ok_or(CommandError::Syntax("PORT h1,h2,h3,h4,p1,p2"))?,
            ),
            "EPRT" => Command::Eprt(match hostport::parse_extended_port(argument) {
                Ok(address) => Some(address),
                Err(ExtendedPortError::Protocol) => None,
                Err(ExtendedPortError::Form) => {
                    return Err(CommandError::Syntax(
                        "EPRT |1|address|port| or EPRT |2|address|port|",
                    ))
                }
            }),
            "RETR" => Command::Retr(needed(argument, "RETR pathname")?),
            "STOR" => Command::Stor(needed(argument, "STOR pathname")?),
            "STOU" => Command::Stou,
            "APPE" => Command::Appe(needed(argument, "APPE pathname")?),
            "ABOR" => Command::Abor,
            "LIST" => Command::List(without_options(argument).to_vec()),
            "NLST" => Command::Nlst(without_options(argument).to_vec()),
            "MLSD" => Command::Mlsd(argument.to_vec()),
            "MLST" => Command::Mlst(argument.to_vec()),
            "SIZE" => Command::Size(needed(argument, "SIZE pathname")?),
            "MDTM" => Command::Mdtm(needed(argument, "MDTM pathname")?),
            "MFMT" => {
                let (seconds, path) = modification(argument)?;
                Command::Mfmt(seconds, path)
            }
            "HASH" => Command::Hash(needed(argument, "HASH pathname")?),
            "DELE" => Command::Dele(needed(argument, "DELE pathname")?),
            "RNFR" => Command::Rnfr(needed(argument, "RNFR pathname")?),
            "RNTO" => Command::Rnto(needed(argument, "RNTO pathname")?),
            "MKD" | "XMKD" => Command::Mkd(needed(argument, "MKD pathname")?),
            "RMD" | "XRMD" => Command::Rmd(needed(argument, "RMD pathname")?),
            left_out if LEFT_OUT.contains(&left_out) => return Err(CommandError::NotImplemented),
            _ => return Err(CommandError::Unknown),
        })
    }

    /// The verbs in the order of RFC 959's groups, for HELP and for the documents' test.
    pub const VERBS: [&'static str; 50] = [
        "USER", "PASS", "QUIT", "AUTH", "PBSZ", "PROT", "CCC", "REIN", "FEAT", "OPTS", "HELP",
        "SYST", "STAT", "NOOP", "CLNT", "CWD", "XCWD", "CDUP", "XCUP", "PWD", "XPWD", "TYPE",
        "MODE", "STRU", "ALLO", "REST", "PASV", "EPSV", "PORT", "EPRT", "RETR", "STOR", "STOU",
        "APPE", "ABOR", "LIST", "NLST", "MLSD", "MLST", "SIZE", "MDTM", "MFMT", "HASH", "DELE",
        "RNFR", "RNTO", "MKD", "XMKD", "RMD", "XRMD",
    ];

    /// Whether `verb` is one of the RFCs' that this server leaves out.
    pub fn is_left_out(verb: &[u8]) -> bool {
        LEFT_OUT
            .iter()
            .any(|left_out| verb.eq_ignore_ascii_case(left_out.as_bytes()))
    }
}

fn needed(argument: &[u8], form: &'static str) -> Result<Vec<u8>, CommandError> {
    if argument.is_empty() {
        Err(CommandError::Syntax(form))
    } else {
        Ok(argument.to_vec())
    }
}

fn number(argument: &[u8], form: &'static str) -> Result<u64, CommandError> {
    let digits = argument.trim_ascii();
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return Err(CommandError::Syntax(form));
    }
    std::str::from_utf8(digits)
        .ok()
        .and_then(|digits| digits.parse().ok())
        .ok_or(CommandError::Syntax(form))
}

/// ALLO: RFC 959 section 4.1.3, with an optional record size after `R`, which says nothing here.
fn allocation(argument: &[u8]) -> Result<u64, CommandError> {
    let form = "ALLO bytes [R bytes]";
    let mut words = argument
        .split(|&byte| byte == b' ')
        .filter(|word| !word.is_empty());
    let bytes = number(words.next().unwrap_or_default(), form)?;
    match (words.next(), words.next(), words.next()) {
        (None, ..) => Ok(bytes),
        (Some(b"R" | b"r"), Some(record), None) => number(record, form).map(|_| bytes),
        (Some(_), ..) => Err(CommandError::Syntax(form)),
    }
}

/// MFMT: draft-somers-ftp-mfxx section 3.1; the time is RFC 3659's time-val (section 2.3).
fn modification(argument: &[u8]) -> Result<(i64, Vec<u8>), CommandError> {
    let mut words = argument.splitn(2, |&byte| byte == b' ');
    let seconds = words.next().and_then(listing::seconds);
    match (seconds, words.next()) {
        (Some(seconds), Some(path)) if !path.is_empty() => Ok((seconds, path.to_vec())),
        (Some(_) | None, _) => Err(CommandError::Syntax("MFMT YYYYMMDDHHMMSS pathname")),
    }
}

/// TYPE: RFC 959 section 3.1.1. A type of the RFC that is left out is 504, anything else 501.
fn representation(argument: &[u8]) -> Result<Type, CommandError> {
    match &argument.to_ascii_uppercase()[..] {
        // RFC 1123 section 4.1.2.2: whoever does not tell T from N takes T for N.
        b"A" | b"A N" | b"A T" => Ok(Type::Ascii),
        b"I" | b"L 8" => Ok(Type::Image),
        b"A C" | b"E" | b"E N" | b"E T" | b"E C" => Err(CommandError::Parameter(
            "This server knows TYPE A, TYPE I and TYPE L 8.",
        )),
        other => match other
            .strip_prefix(b"L ")
            .map(|size| number(size, "TYPE L 8"))
        {
            Some(Ok(_)) => Err(CommandError::Parameter("The byte size here is 8.")),
            Some(Err(error)) => Err(error),
            None => Err(CommandError::Syntax("TYPE I")),
        },
    }
}

fn options(argument: &[u8]) -> Options {
    let mut words = argument.splitn(2, |&byte| byte == b' ');
    let name = words.next().unwrap_or_default();
    let value = words.next().unwrap_or_default();
    if name.eq_ignore_ascii_case(b"UTF8") || name.eq_ignore_ascii_case(b"UTF-8") {
        if value.is_empty() || value.eq_ignore_ascii_case(b"ON") {
            return Options::Utf8On;
        }
    } else if name.eq_ignore_ascii_case(b"MLST") {
        return Options::Mlst(value.to_vec());
    } else if name.eq_ignore_ascii_case(b"HASH") {
        return Options::Hash(value.to_vec());
    }
    Options::Other
}

/// Clients pass `ls` options to LIST, NLST and STAT; the pathname begins after them. A directory whose
/// name begins with a dash is listed as `./-name`.
fn without_options(argument: &[u8]) -> &[u8] {
    let mut rest = argument;
    while rest.first() == Some(&b'-') {
        rest = match rest.iter().position(|&byte| byte == b' ') {
            Some(space) => rest.get(space.saturating_add(1)..).unwrap_or_default(),
            None => b"",
        };
    }
    rest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &[u8], expected: Result<Command, CommandError>) {
        assert_eq!(Command::parse(line), expected, "{}", line.escape_ascii());
    }

    #[test]
    fn verbs_in_any_case_and_arguments_as_they_are() {
        check(b"retr  a b ", Ok(Command::Retr(b" a b ".to_vec())));
        check(b"STOR -x", Ok(Command::Stor(b"-x".to_vec())));
        check(b"xCWD \xff", Ok(Command::Cwd(b"\xff".to_vec())));
        check(b"NOOP whatever", Ok(Command::Noop));
    }

    #[test]
    fn numbers_are_u64() {
        check(b"REST 18446744073709551615", Ok(Command::Rest(u64::MAX)));
        for line in [
            &b"REST 18446744073709551616"[..],
            b"REST -1",
            b"REST",
            b"REST 1x",
            b"REST +1",
        ] {
            check(line, Err(CommandError::Syntax("REST bytes")));
        }
        check(b"ALLO 10 R 5", Ok(Command::Allo(10)));
        check(b"ALLO 10 r 5", Ok(Command::Allo(10)));
        for line in [
            &b"ALLO"[..],
            b"ALLO 10 R",
            b"ALLO 10 5",
            b"ALLO 10 R x",
            b"ALLO 10 R 5 6",
        ] {
            check(line, Err(CommandError::Syntax("ALLO bytes [R bytes]")));
        }
        check(b"PBSZ 4294967295", Ok(Command::Pbsz(u32::MAX)));
        check(b"PBSZ 4294967296", Err(CommandError::Syntax("PBSZ 0")));
    }

    #[test]
    fn times_of_mfmt() {
        check(
            b"MFMT 20231114221320  a b",
            Ok(Command::Mfmt(1_700_000_000, b" a b".to_vec())),
        );
        for line in [
            &b"MFMT"[..],
            b"MFMT 20231114221320",
            b"MFMT 20231114221320 ",
            b"MFMT a 20231114221320",
            b"MFMT 2023111422132 a",
        ] {
            check(
                line,
                Err(CommandError::Syntax("MFMT YYYYMMDDHHMMSS pathname")),
            );
        }
    }

    #[test]
    fn options_of_ls_are_skipped() {
        check(b"LIST -la", Ok(Command::List(b"".to_vec())));
        check(b"LIST -a -l dir", Ok(Command::List(b"dir".to_vec())));
        check(b"LIST ./-dir", Ok(Command::List(b"./-dir".to_vec())));
        check(b"MLSD -dir", Ok(Command::Mlsd(b"-dir".to_vec())));
        check(b"STAT", Ok(Command::Stat(None)));
        check(b"STAT -l", Ok(Command::Stat(Some(b"".to_vec()))));
    }

    #[test]
    fn what_is_no_command() {
        check(b"", Err(CommandError::Unknown));
        check(b"FROB", Err(CommandError::Unknown));
        check(b"\xff\xfe x", Err(CommandError::Unknown));
        check(b"SITE CHMOD 1", Err(CommandError::NotImplemented));
        check(b"RETR", Err(CommandError::Syntax("RETR pathname")));
        check(
            b"TYPE E",
            Err(CommandError::Parameter(
                "This server knows TYPE A, TYPE I and TYPE L 8.",
            )),
        );
    }

    #[test]
    fn every_listed_verb_is_known() {
        for verb in Command::VERBS {
            assert_ne!(
                Command::parse(verb.as_bytes()),
                Err(CommandError::Unknown),
                "{verb}"
            );
        }
    }

    #[test]
    fn a_password_does_not_print() {
        let command = Command::parse(b"PASS secret").unwrap();
        assert!(!format!("{command:?}").contains("secret"));
    }
}

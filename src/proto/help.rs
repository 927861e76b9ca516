//! HELP: RFC 959 section 4.1.3.

use super::command::Command;
use super::reply::Reply;

/// Every verb with its argument, an optional one in brackets.
const FORMS: [(&str, &str); Command::VERBS.len()] = [
    ("USER", "name"),
    ("PASS", "password"),
    ("QUIT", ""),
    ("AUTH", "TLS"),
    ("PBSZ", "0"),
    ("PROT", "C | P"),
    ("CCC", ""),
    ("REIN", ""),
    ("FEAT", ""),
    ("OPTS", "UTF8 ON | MLST facts | HASH [SHA-256]"),
    ("HELP", "[command]"),
    ("SYST", ""),
    ("STAT", "[pathname]"),
    ("NOOP", ""),
    ("CLNT", "name"),
    ("CWD", "pathname"),
    ("XCWD", "pathname"),
    ("CDUP", ""),
    ("XCUP", ""),
    ("PWD", ""),
    ("XPWD", ""),
    ("TYPE", "A | I | L 8"),
    ("MODE", "S"),
    ("STRU", "F"),
    ("ALLO", "bytes [R bytes]"),
    ("REST", "bytes"),
    ("PASV", ""),
    ("EPSV", "[1 | 2 | ALL]"),
    ("PORT", "h1,h2,h3,h4,p1,p2"),
    ("EPRT", "|1 or 2|address|port|"),
    ("RETR", "pathname"),
    ("STOR", "pathname"),
    ("STOU", ""),
    ("APPE", "pathname"),
    ("ABOR", ""),
    ("LIST", "[pathname]"),
    ("NLST", "[pathname]"),
    ("MLSD", "[pathname]"),
    ("MLST", "[pathname]"),
    ("SIZE", "pathname"),
    ("MDTM", "pathname"),
    ("MFMT", "YYYYMMDDHHMMSS pathname"),
    ("HASH", "pathname"),
    ("DELE", "pathname"),
    ("RNFR", "pathname"),
    ("RNTO", "pathname"),
    ("MKD", "pathname"),
    ("XMKD", "pathname"),
    ("RMD", "pathname"),
    ("XRMD", "pathname"),
];

/// The reply to HELP with this argument: all verbs, or the form of one. RFC 959 section 5.4
/// gives HELP no reply for a verb that is not there but 501 and 502.
pub fn help(argument: &[u8]) -> Reply {
    let argument = argument.trim_ascii();
    if argument.is_empty() {
        let lines = Command::VERBS
            .chunks(10)
            .map(|verbs| verbs.join(" ").into_bytes());
        return Reply::multi_line(214, "The commands of this server:", lines, "End.");
    }
    let form = FORMS
        .iter()
        .find(|(verb, _)| argument.eq_ignore_ascii_case(verb.as_bytes()));
    match form {
        Some((verb, form)) => Reply::with_text(214, format!("{verb} {form}").trim_end()),
        None if Command::is_left_out(argument) => Reply::new(
            502,
            "This server leaves that command out: HELP lists the others.",
        ),
        None => Reply::new(501, "No such command: HELP lists them."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_forms_are_of_the_verbs() {
        assert_eq!(FORMS.map(|(verb, _)| verb), Command::VERBS);
    }
}

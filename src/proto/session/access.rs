//! Before the login: RFC 959 section 4.1.1, RFC 2228, RFC 2389, RFC 4217.

use super::work::{Authenticate, Identify, Secure, Work};
use super::{Channel, Manner, Policy, Session, Step};
use crate::proto::command::{Command, Mechanism, Options, ProtLevel};
use crate::proto::directive::Directive;
use crate::proto::help::help;
use crate::proto::parameters::{Facts, Protection};
use crate::proto::reply::Reply;

/// Nobody has named a user yet.
#[derive(Debug)]
pub struct Greeted {
    pub(super) channel: Option<Channel>,
    pub(super) manner: Manner,
}

/// A user was named over a permitted channel and the password is awaited.
#[derive(Debug)]
pub struct AwaitingPassword {
    pub(super) channel: Channel,
    pub(super) manner: Manner,
    pub(super) name: Vec<u8>,
}

impl Greeted {
    pub(super) fn decide(mut self, command: Command, policy: &Policy) -> Step {
        let reply = match (command, self.channel) {
            (Command::User(name), Some(channel)) => return name_user(channel, self.manner, name),
            // The argument is dropped unread: without a channel nothing is a password.
            (Command::User(_) | Command::Pass(_), None) => {
                Reply::tls_first().because(Directive::PLAIN_FROM)
            }
            (Command::Pass(_), Some(_)) => Reply::bad_sequence("Send USER first."),
            (Command::Auth(Mechanism::Tls), None | Some(Channel::PlainPermitted(_))) => {
                return Step::Perform(Work::Secure(Secure::new(self.manner)))
            }
            (other, channel) => self.manner.answer(&other, channel, policy),
        };
        Step::Reply(Session::Greeted(self), reply)
    }
}

impl AwaitingPassword {
    pub(super) fn decide(mut self, command: Command, policy: &Policy) -> Step {
        if let Command::Pass(password) = command {
            return Step::Perform(Work::Authenticate(Authenticate::new(
                self.channel,
                self.manner,
                self.name,
                password,
            )));
        }
        if let Command::User(name) = command {
            return name_user(self.channel, self.manner, name);
        }
        if let (Command::Auth(Mechanism::Tls), Channel::PlainPermitted(_)) =
            (&command, self.channel)
        {
            // The name is forgotten: RFC 2228 section 3 has USER sent again after AUTH.
            return Step::Perform(Work::Secure(Secure::new(self.manner)));
        }
        let reply = self.manner.answer(&command, Some(self.channel), policy);
        Step::Reply(Session::AwaitingPassword(self), reply)
    }
}

/// The step from a named user to the wait for the password, unless the client's certificate may
/// stand for the user.
pub(super) fn name_user(channel: Channel, manner: Manner, name: Vec<u8>) -> Step {
    if channel.is_certified() {
        return Step::Perform(Work::Identify(Identify::new(channel, manner, name)));
    }
    await_password(channel, manner, name)
}

pub(super) fn await_password(channel: Channel, manner: Manner, name: Vec<u8>) -> Step {
    Step::Reply(
        Session::AwaitingPassword(AwaitingPassword {
            channel,
            manner,
            name,
        }),
        Reply::new(331, "Password, please."),
    )
}

impl Manner {
    /// The reply to a command that means the same in every state; whatever needs a login gets
    /// 530 here, because the state after the login does not ask.
    pub(super) fn answer(
        &mut self,
        command: &Command,
        channel: Option<Channel>,
        policy: &Policy,
    ) -> Reply {
        match command {
            Command::Noop => Reply::new(200, "Here."),
            Command::Feat => self.features(policy),
            Command::Help(verb) => help(verb),
            Command::Syst => Reply::new(215, "UNIX Type: L8"),
            Command::Clnt => Reply::new(200, "Noted."),
            Command::Opts(Options::Utf8On) => Reply::new(200, "Names are UTF-8 anyway."),
            Command::Opts(Options::Mlst(list)) => {
                self.facts = Facts::parse(list);
                // RFC 3659 section 7.9 gives this reply its form.
                let text = format!("MLST OPTS {}", self.facts.describe(false, ""));
                Reply::with_text(200, text.trim_end())
            }
            // draft-bryan-ftpext-hash section 3.2: 501 for another algorithm.
            Command::Opts(Options::Hash(wanted)) => {
                if wanted.is_empty() || wanted.eq_ignore_ascii_case(b"SHA-256") {
                    Reply::new(200, "SHA-256")
                } else {
                    Reply::new(501, "Unknown algorithm; it stays SHA-256.")
                }
            }
            // RFC 2389 section 4.
            Command::Opts(Options::Other) => {
                Reply::new(501, "No such option: this server has UTF8, MLST and HASH.")
            }
            Command::Auth(Mechanism::Tls) => match channel {
                Some(Channel::Secured(_)) => Reply::bad_sequence("TLS is up already."),
                // RFC 2228 section 3: whoever is logged in would have to log in again.
                Some(Channel::PlainPermitted(_)) => {
                    Reply::bad_sequence("Send AUTH TLS before the login: connect anew.")
                }
                None => Reply::tls_first(),
            },
            Command::Auth(Mechanism::Other) => Reply::new(504, "This server knows AUTH TLS."),
            Command::Pbsz(_) => match channel {
                Some(Channel::Secured(_)) => {
                    self.buffer_size_agreed = true;
                    Reply::new(200, "PBSZ=0")
                }
                None | Some(Channel::PlainPermitted(_)) => {
                    Reply::bad_sequence("Send AUTH TLS first.")
                }
            },
            Command::Prot(level) => self.protect(*level),
            // RFC 2228 section 3: 533 for a CCC that came unprotected, 534 where the server does
            // not want to give the protection up, as RFC 4217 section 12.3 lets it.
            Command::Ccc => match channel {
                Some(Channel::Secured(_)) => {
                    Reply::new(534, "The control connection stays protected: send no CCC.")
                }
                Some(Channel::PlainPermitted(_)) | None => {
                    Reply::new(533, "The control connection is not protected.")
                }
            },
            // RFC 959 section 5.4 has 502 for it.
            Command::Rein => Reply::new(502, "Connect anew instead."),
            Command::Quit => Reply::new(221, "Goodbye."),
            Command::User(_)
            | Command::Pass(_)
            | Command::Stat(_)
            | Command::Cwd(_)
            | Command::Cdup
            | Command::Pwd
            | Command::Type(_)
            | Command::Mode(_)
            | Command::Stru(_)
            | Command::Allo(_)
            | Command::Rest(_)
            | Command::Pasv
            | Command::Epsv(_)
            | Command::Port(_)
            | Command::Eprt(_)
            | Command::Retr(_)
            | Command::Stor(_)
            | Command::Stou
            | Command::Appe(_)
            | Command::Abor
            | Command::List(_)
            | Command::Nlst(_)
            | Command::Mlsd(_)
            | Command::Mlst(_)
            | Command::Size(_)
            | Command::Mdtm(_)
            | Command::Mfmt(..)
            | Command::Hash(_)
            | Command::Dele(_)
            | Command::Rnfr(_)
            | Command::Rnto(_)
            | Command::Mkd(_)
            | Command::Rmd(_) => match channel {
                Some(_) => Reply::not_logged_in(),
                None => Reply::tls_first(),
            },
        }
    }

    /// PROT: RFC 2228 section 3, RFC 4217 section 9.
    fn protect(&mut self, level: ProtLevel) -> Reply {
        if !self.buffer_size_agreed {
            return Reply::bad_sequence("Send PBSZ 0 first.");
        }
        match level {
            ProtLevel::Private => {
                self.protection = Protection::Private;
                Reply::new(200, "Data connections are private.")
            }
            ProtLevel::Clear if self.plain.is_some() => {
                self.protection = Protection::Clear;
                Reply::new(200, "Data connections are in clear text.")
            }
            ProtLevel::Clear => {
                let reply = Reply::new(534, "Data connections stay private: send PROT P.");
                if self.explicit {
                    reply.because(Directive::PLAIN_FROM)
                } else {
                    reply
                }
            }
            ProtLevel::SafeOrConfidential => Reply::new(536, "TLS knows PROT P only."),
            ProtLevel::Unknown => Reply::new(504, "This server knows PROT P."),
        }
    }

    /// FEAT: RFC 2389 section 3, RFC 3659, RFC 4217 section 6, and the drafts of HASH and MFMT.
    fn features(&self, policy: &Policy) -> Reply {
        let mlst = format!("MLST {}", self.facts.describe(true, "*"));
        let active = policy.active.is_some().then_some("EPRT");
        let features = [
            "EPSV",
            "HASH SHA-256*",
            "MDTM",
            "MFMT",
            &mlst,
            "PBSZ",
            "PROT",
            "REST STREAM",
            "SIZE",
            "TVFS",
            "UTF8",
        ];
        Reply::multi_line(
            211,
            "Features:",
            ["AUTH TLS"]
                .into_iter()
                .chain(active)
                .chain(features)
                .map(|feature| feature.as_bytes().to_vec()),
            "End.",
        )
    }
}

//! The tables of the file: which type each key is read as, and what holds where it is missing.

use toml::de::DeValue;
use toml::Spanned;

use super::network::{Override, TlsVersion};
use super::read::{mistake, word, FromToml, Mistake, Table};
use super::storage::{ByteSize, Share, Shares};
use super::value::Millis;
use super::{Certificate, ClientCertificates, Config, DataSession, User};
use crate::proto::network::Network;

impl Config {
    /// The keys of the whole file.
    pub(super) fn from_table(table: &Table<'_>) -> Result<Config, Mistake> {
        let span = |key: &str, default: Millis| Ok(table.optional(key)?.unwrap_or(default));
        let yes = |key: &str| Ok(table.optional(key)?.unwrap_or(true));
        Ok(Config {
            listen: table.default("listen")?,
            listen_implicit: table.default("listen-implicit")?,
            account: table.optional("account")?,
            state_dir: table.optional("state-dir")?,
            pid_file: table.optional("pid-file")?,
            status_file: table.optional("status-file")?,
            log: table.optional("log")?,
            open_for: table.optional("open-for")?,
            workers: table.default("workers")?,
            allow: table.optional("allow")?.unwrap_or_else(Network::everywhere),
            deny: table.default("deny")?,
            reserve_for: table.default("reserve-for")?,
            sessions_per_address: table.optional("sessions-per-address")?,
            sessions_before_login: table.optional("sessions-before-login")?,
            login_penalty: span("login-penalty", Millis::penalty())?,
            passive_ports: table.default("passive-ports")?,
            active_mode: table.default("active-mode")?,
            data_session: table.default("data-session")?,
            passive_address: table.optional("passive-address")?,
            truncated_uploads: table.default("truncated-uploads")?,
            tls_min: table
                .optional("tls-min")?
                .unwrap_or_else(TlsVersion::lowest),
            tls_max: table
                .optional("tls-max")?
                .unwrap_or_else(TlsVersion::highest),
            plain_from: table.default("plain-from")?,
            ascii: yes("ascii")?,
            symlinks: yes("symlinks")?,
            file_mode: table.optional("file-mode")?,
            keep_free: table
                .optional("keep-free")?
                .unwrap_or_else(ByteSize::keep_free),
            partial_age: span("partial-age", Millis::partial_age())?,
            durable: yes("durable")?,
            atomic: yes("atomic")?,
            login_timeout: span("login-timeout", Millis::login())?,
            idle_timeout: span("idle-timeout", Millis::idle())?,
            tls_timeout: span("tls-timeout", Millis::tls())?,
            data_timeout: span("data-timeout", Millis::data())?,
            stall_timeout: span("stall-timeout", Millis::stall())?,
            slowest: table.optional("slowest")?.unwrap_or_else(ByteSize::slowest),
            drain_timeout: span("drain-timeout", Millis::drain())?,
            client_ca: table.optional("client-ca")?,
            client_certificates: table.default("client-certificates")?,
            users_file: table.optional("users-file")?,
            certificate: table.default("certificate")?,
            user: table.default("user")?,
            network: table.default("network")?,
        })
    }
}

impl FromToml for Certificate {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Certificate, Mistake> {
        let table = Table::of(value)?;
        Ok(Certificate {
            chain: table.required("chain")?,
            key: table.required("key")?,
        })
    }
}

impl FromToml for User {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<User, Mistake> {
        let table = Table::of(value)?;
        Ok(User {
            name: table.required("name")?,
            password: table.optional("password")?,
            root: table.required("root")?,
            access: table.default("access")?,
            share: table
                .optional("share")?
                .map_or_else(Shares::new, |Named(shares)| shares),
            require_mount: table.default("require-mount")?,
            durable: table.optional("durable")?,
            atomic: table.optional("atomic")?,
            file_mode: table.optional("file-mode")?,
            client_certificate: table.optional("client-certificate")?,
            data_session: table.optional("data-session")?,
            sessions: table.optional("sessions")?,
            expires: None,
        })
    }
}

/// The shares of a user: a table with the names as its keys.
struct Named(Shares);

impl FromToml for Named {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Named, Mistake> {
        let table = value.get_ref().as_table();
        let shares = table.ok_or_else(|| mistake(value, "share.NAME = { path = ... }"))?;
        let read = |(name, share): (&Spanned<_>, &_)| {
            let name = Spanned::new(
                name.span(),
                String::from(AsRef::<str>::as_ref(name.get_ref())),
            );
            Ok((name, Share::from_toml(share)?))
        };
        shares.iter().map(read).collect::<Result<_, _>>().map(Named)
    }
}

impl FromToml for Share {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Share, Mistake> {
        let table = Table::of(value)?;
        Ok(Share {
            path: table.required("path")?,
            access: table.optional("access")?.unwrap_or_else(Share::read_only),
            require_mount: table.default("require-mount")?,
        })
    }
}

impl FromToml for Override {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<Override, Mistake> {
        let table = Table::of(value)?;
        Ok(Override {
            from: table.required("from")?,
            passive_address: table.optional("passive-address")?,
            data_session: table.optional("data-session")?,
            truncated_uploads: table.optional("truncated-uploads")?,
            tls_min: table.optional("tls-min")?,
            tls_max: table.optional("tls-max")?,
        })
    }
}

impl FromToml for DataSession {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<DataSession, Mistake> {
        let words = [
            ("required", DataSession::Required),
            ("preferred", DataSession::Preferred),
        ];
        word(value, &words)
    }
}

impl FromToml for ClientCertificates {
    fn from_toml(value: &Spanned<DeValue<'_>>) -> Result<ClientCertificates, Mistake> {
        let words = [
            ("optional", ClientCertificates::Optional),
            ("required", ClientCertificates::Required),
        ];
        word(value, &words)
    }
}

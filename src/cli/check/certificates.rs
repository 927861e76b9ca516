//! What clients are shown, and who is trusted: read as a start reads it, and how long it lasts.

use std::sync::Arc;

use super::super::{own_certificate, settings_error, Exit, StartError};
use super::Report;
use crate::clock::Clock;
use crate::config::{ClientCertificates, Config};
use crate::daemon::State;
use crate::settings::{SettingsError, DAYS_AHEAD};
use crate::tls::{Certificates, Clients, Tls};

/// The certificates that the configuration names, with their keys, and the authorities of clients'.
pub(super) fn configured(config: &Config, report: &mut Report) {
    let wrong = |error| settings_error(SettingsError::Certificate(error));
    let now = Clock::new(State::new(config.state_dir.as_deref())).now();
    if now.is_none() {
        report.fact(format_args!(
            "clock: behind, so nobody can tell which certificates have ended"
        ));
    }
    for pair in &config.certificate {
        let loaded = Certificates::load([(pair.chain.as_path(), pair.key.as_path())]);
        if let Some(certificates) = report.take(loaded.map_err(wrong)) {
            show(&certificates, now, report);
        }
    }
    let required = config.client_certificates == ClientCertificates::Required;
    let clients = match &config.client_ca {
        Some(file) => report.take(Clients::load(file, required).map_err(wrong)),
        None => Some(Clients::unasked()),
    };
    if let Some(clients) = clients {
        let tls = Tls::with_clients(Arc::new(Certificates::default()), &clients, i64::MIN);
        report.take(tls.map_err(|error| settings_error(SettingsError::Tls(error))));
    }
}

/// The one that the server made for itself, where the configuration names none.
pub(super) fn own(config: &Config, report: &mut Report) {
    if !config.certificate.is_empty() {
        return;
    }
    let kept = own_certificate(config).kept();
    match report.take(kept.map_err(|error| StartError::new(Exit::Config, error))) {
        // It has no end.
        Some(Some(certificates)) => show(&certificates, None, report),
        Some(None) if config.state_dir.is_some() => {
            report.fact(format_args!("certificate: none yet, the start makes one"));
        }
        Some(None) => report.warn(format_args!(
            "certificate: without state-dir every start makes another one, which no client knows: \
             name state-dir"
        )),
        None => {}
    }
}

/// `now` is in seconds since 1970; without it nothing is said of dates.
fn show(certificates: &Certificates, now: Option<i64>, report: &mut Report) {
    for shown in certificates.each() {
        report.fact(format_args!("certificate: {shown}"));
        let (Some(now), Some(file)) = (now, &shown.file) else {
            continue;
        };
        let (file, days) = (file.display(), shown.about.days_left(now));
        if days < 0 {
            report.warn(format_args!(
                "{file}: this certificate has ended: clients refuse it: renew it"
            ));
        } else if days < DAYS_AHEAD {
            report.warn(format_args!(
                "{file}: this certificate ends in {days} days: renew it"
            ));
        }
        if now < shown.about.not_before {
            report.warn(format_args!(
                "{file}: this certificate is not valid yet: clients refuse it: look at the clock \
                 of who issued it"
            ));
        }
    }
    for (file, doubt) in certificates.doubts() {
        report.warn(format_args!("{}: {doubt}", file.display()));
    }
}

//! What clients are shown: as a start reads it, and how long it lasts.

use std::path::Path;
use std::sync::Arc;

use rustix::fs::Access;
use rustix::io::Errno;

use super::super::{own_certificate, Exit, StartError};
use super::Report;
use crate::clock::Clock;
use crate::daemon::State;
use crate::settings::Settings;

/// The certificates that are there: those that the configuration names, or else the one that the
/// server made for itself, which is read as the account.
pub(super) fn show(mut settings: Settings, is_account: bool, report: &mut Report) {
    if settings.config.certificate.is_empty() && is_account {
        let kept = own_certificate(&settings.config).kept();
        let state = settings.config.state_dir.as_deref();
        // On a file system without write access it is kept no more than without.
        let keeps = |path: &Path| rustix::fs::access(path, Access::WRITE_OK) != Err(Errno::ROFS);
        match report.take(kept.map_err(|error| StartError::new(Exit::Config, error))) {
            Some(Some(kept)) => settings.certificates = Arc::new(kept),
            Some(None) if state.is_some_and(keeps) => {
                report.fact(&"certificate", &"none yet, the start makes one");
            }
            Some(None) => report.warn(
                &"certificate",
                &"without a state-dir to write to every start makes another one, which no client knows",
                "name state-dir",
            ),
            None => {}
        }
    }
    let now = Clock::new(State::new(settings.config.state_dir.as_deref())).now();
    for shown in settings.certificates.each() {
        report.fact(&"certificate", shown);
        if now.is_some_and(|now| now < shown.about.not_before) {
            let advice = "look at the clock of who issued it";
            report.warn(&"certificate", &"it is not valid yet", advice);
        }
    }
    for (file, doubt) in settings.certificates.doubts() {
        report.warn(&file.display(), doubt, "");
    }
    for (file, days) in settings.expiring(now) {
        match days {
            0.. => report.warn(
                &file.display(),
                &format_args!("this certificate ends in {days} days"),
                "renew it",
            ),
            _ => report.warn(&file.display(), &"this certificate has ended", "renew it"),
        }
    }
    if now.is_none() {
        let text = "behind, so nobody can tell which certificates have ended";
        report.fact(&"clock", &text);
    }
}

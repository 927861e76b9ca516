//! The server's own certificate, for a configuration that names none: made at the first start, kept
//! in `state-dir`, and the same as long as the process lives.

use std::io::ErrorKind;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::daemon::State;
use crate::log::{Level, Log};
use crate::tls::{self, CertificateError, Certificates};

/// The file in `state-dir` with the key and the certificate.
const NAME: &str = "certificate.pem";

/// Where it is kept, and what it is once it was needed.
#[derive(Debug)]
pub struct Own {
    state: State,
    addresses: Vec<IpAddr>,
    certificates: Option<Arc<Certificates>>,
}

impl Own {
    /// Nothing is read or made yet. `addresses` are those that the configuration listens on.
    pub fn new(state: State, addresses: impl IntoIterator<Item = IpAddr>) -> Own {
        Own {
            state,
            addresses: addresses
                .into_iter()
                .filter(|address| !address.is_unspecified())
                .collect(),
            certificates: None,
        }
    }

    /// The certificate that was kept, if there is one.
    ///
    /// # Errors
    /// When it cannot be read or used. It is not replaced then: clients know it.
    pub fn kept(&self) -> Result<Option<Certificates>, CertificateError> {
        let Some(path) = self.state.path(NAME) else {
            return Ok(None);
        };
        let advice = |error: &dyn std::fmt::Display| {
            CertificateError::new(
                &path,
                format!("{error}; remove the file to have another one made"),
            )
        };
        let text = self.state.read(NAME).map_err(|error| {
            if error.kind() == ErrorKind::PermissionDenied {
                let text = format!("{error}; chown the file to the account that serves");
                return CertificateError::new(&path, text);
            }
            advice(&error)
        })?;
        text.map(|text| Certificates::of_one(&text, &path, true))
            .transpose()
            .map_err(|error| advice(&error))
    }

    /// The certificate: that of this run, the one that was kept, or a new one, which is kept if
    /// that can be.
    ///
    /// # Errors
    /// As [`kept`](Self::kept), or when none can be made.
    pub fn obtain(&mut self, log: &Log) -> Result<Arc<Certificates>, CertificateError> {
        if let Some(certificates) = &self.certificates {
            return Ok(Arc::clone(certificates));
        }
        let certificates = Arc::new(match self.kept()? {
            Some(certificates) => certificates,
            None => self.make(log)?,
        });
        self.certificates = Some(Arc::clone(&certificates));
        Ok(certificates)
    }

    fn make(&self, log: &Log) -> Result<Certificates, CertificateError> {
        let path = self.state.path(NAME);
        let place = path.clone().unwrap_or_else(|| PathBuf::from("certificate"));
        let text = tls::make_certificate(&host_name(), &self.addresses())
            .map_err(|error| CertificateError::new(&place, format!("none can be made: {error}")))?;
        let kept = self.state.write(NAME, text.as_bytes());
        let is_kept = matches!(kept, Ok(true));
        let made = Certificates::of_one(text.as_bytes(), &place, is_kept)?;
        for shown in made.each() {
            log.event(Level::Notice, "certificate-made")
                .bytes("names", shown.about.names().as_bytes())
                .field("fingerprint", &shown.fingerprint)
                .send();
        }
        if !is_kept {
            // Clients that remember it will see another one after each restart.
            let reason = match kept {
                Ok(_) => "there is no state-dir".to_owned(),
                Err(error) => error.to_string(),
            };
            log.event(Level::Warning, "certificate-not-kept")
                .bytes("error", reason.as_bytes())
                .send();
        }
        Ok(made)
    }

    /// Those of the device now, and those that are listened on.
    fn addresses(&self) -> Vec<IpAddr> {
        let mut found = tls::addresses_of_device();
        for address in &self.addresses {
            if !found.contains(address) {
                found.push(*address);
            }
        }
        found
    }
}

fn host_name() -> String {
    rustix::system::uname()
        .nodename()
        .to_string_lossy()
        .into_owned()
}

//! PASV, EPSV, and what a transfer's data connection comes from.

use std::io::ErrorKind;
use std::os::fd::AsFd;

use super::ServerPi;
use crate::config::DataSession;
use crate::data::{Asker, DataEndpoint};
use crate::log::Level;
use crate::proto::directive::Directive;
use crate::proto::session::{DataProtection, Listen, Passive, Step, Transfer};
use crate::transfer;

impl ServerPi<'_> {
    /// Listens for a data connection, on a port of its own or one of those that all share.
    #[inline(never)]
    pub(super) fn listen(&mut self, work: Listen) -> Step {
        // The old endpoint goes first: its port may be the only one.
        self.endpoint = None;
        let (local, peer) = (self.control.local(), self.control.peer().ip());
        // EPSV announces the port alone.
        let announced = match work.how() {
            Passive::Pasv => self.conditions.passive_address,
            Passive::Epsv => None,
        };
        let binding = self.binding.clone();
        let protection = work.protection();
        let required = self.demand.data_session == DataSession::Required;
        let opened = match &self.service.shared_ports {
            Some(ports) => {
                let ends = [self.control.as_fd(), self.service.stop.draining()];
                let asker = Asker {
                    peer,
                    session: self.number,
                    knows_its_client: required
                        && self.control.protection().is_some()
                        && matches!(protection, DataProtection::Private),
                };
                DataEndpoint::lease(local, asker, ports, announced, binding, protection, ends)
            }
            None => {
                let ports = self.settings.config.passive_ports;
                DataEndpoint::open(local, peer, ports, announced, binding)
            }
        };
        let address = match opened {
            Ok(mut endpoint) => {
                if required && self.certificate.is_none() {
                    endpoint.insist();
                }
                Some(self.endpoint.insert(endpoint).address())
            }
            Err(error) => {
                self.log
                    .event(Level::Warning, "no-passive-port")
                    .bytes("error", error.to_string().as_bytes())
                    .decided_by(
                        matches!(error.kind(), ErrorKind::AddrInUse | ErrorKind::TimedOut)
                            .then_some(Directive("passive-ports")),
                    )
                    .send();
                None
            }
        };
        let (session, reply) = work.finished(address);
        Step::Reply(session, reply)
    }

    /// Where the data connection of a transfer comes from.
    pub(super) fn endpoint_of(&mut self, work: &Transfer) -> Option<DataEndpoint> {
        let Some(port) = work.connect_to() else {
            return self.endpoint.take();
        };
        // The address is that of the control connection, whatever the client wrote.
        let mut target = self.control.peer();
        target.set_port(port);
        Some(DataEndpoint::active(
            self.control.local(),
            target,
            self.binding.clone(),
        ))
    }

    /// Lets go of an endpoint whose port another session has by now.
    pub(super) fn drop_lost_endpoint(&mut self) {
        let Some(endpoint) = &self.endpoint else {
            return;
        };
        if endpoint.is_lost() {
            transfer::report_lost(&self.log, endpoint);
            self.endpoint = None;
        }
    }
}

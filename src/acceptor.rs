//! The thread that accepts data connections on ports that sessions share.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use std::{io, thread};

use crate::ceilings::ACCEPTOR_STACK;
use crate::data::SharedPorts;
use crate::pi::Service;

/// Pause after a defect, so as not to spin.
const PAUSE: Duration = Duration::from_millis(100);

/// Starts the thread where there are such ports. It ends with the second stage of stopping.
///
/// # Errors
/// When the system has no room for it.
pub fn start(service: &Arc<Service>) -> io::Result<()> {
    let Some(ports) = service.shared_ports.clone() else {
        return Ok(());
    };
    let service = Arc::clone(service);
    thread::Builder::new()
        .name("acceptor".to_owned())
        .stack_size(ACCEPTOR_STACK)
        .spawn(move || run(&service, &ports))
        .map_err(|error| {
            let text = format!(
                "cannot start the thread that accepts data connections: {error}: raise the limit of \
                 threads (`ulimit -u`) or memory"
            );
            io::Error::new(error.kind(), text)
        })?;
    Ok(())
}

fn run(service: &Service, ports: &SharedPorts) {
    let serve = || ports.serve(service.stop.ending());
    // A defect that one connection found costs those that are kept with it; it is logged as a panic.
    while std::panic::catch_unwind(AssertUnwindSafe(serve)).is_err() {
        thread::sleep(PAUSE);
    }
}

//! The fixed pool: one thread per session, no more sessions than threads.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::{io, thread};

use crossbeam_channel::{Receiver, Select, Sender};

use crate::ceilings::STACK;
use crate::log::Level;
use crate::pi::{self, Connection, Service};
use crate::wait::Deadline;

/// The pool and the way in.
#[derive(Debug)]
pub struct Pool {
    jobs: Sender<Box<Connection>>,
    ended: Receiver<()>,
    workers: usize,
}

impl Pool {
    /// Starts the workers.
    ///
    /// # Errors
    /// When the system has no room for so many threads.
    pub fn start(service: &Arc<Service>) -> io::Result<Pool> {
        let workers = usize::from(service.settings().config.workers.0);
        // A slot is taken before a job is sent, so the channel never holds more than this.
        let (jobs, queue) = crossbeam_channel::bounded(workers);
        let (ending, ended) = crossbeam_channel::bounded(workers);
        for number in 1..=workers {
            let (service, queue, ending) = (Arc::clone(service), queue.clone(), ending.clone());
            thread::Builder::new()
                .name("worker".to_owned())
                .stack_size(STACK)
                .spawn(move || {
                    work(&service, &queue);
                    let _ = ending.send(());
                })
                .map_err(|error| refused(number, workers, &error))?;
        }
        Ok(Pool {
            jobs,
            ended,
            workers,
        })
    }

    /// Hands a connection to a worker. Its slot says that one is free, or about to be.
    ///
    /// # Errors
    /// The connection itself when no worker lives.
    pub fn submit(&self, connection: Connection) -> Result<(), Connection> {
        self.jobs
            .try_send(Box::new(connection))
            .map_err(|refused| *refused.into_inner())
    }

    /// Ends the workers when their sessions have ended, and waits for them.
    pub fn finish(self, deadline: Deadline) {
        drop(self.jobs);
        for _ in 0..self.workers {
            if self.ended.recv_deadline(deadline.instant()).is_err() {
                return;
            }
        }
    }
}

fn refused(number: usize, workers: usize, error: &io::Error) -> io::Error {
    let advice = "lower workers, or raise the limit of threads (`ulimit -u`) or memory";
    let text = format!("cannot start worker {number} of {workers}: {error}: {advice}");
    io::Error::new(error.kind(), text)
}

/// The next connection; `None` when there will be none. A plain recv() would spin before it sleeps,
/// which costs a tenth of what a login does.
#[inline(never)]
fn next(queue: &Receiver<Box<Connection>>) -> Option<Box<Connection>> {
    let mut select = Select::new();
    select.recv(queue);
    select.select().recv(queue).ok()
}

fn work(service: &Service, queue: &Receiver<Box<Connection>>) {
    while let Some(connection) = next(queue) {
        let number = connection.number;
        // A defect that one client found costs that client's session and nothing else.
        let served = std::panic::catch_unwind(AssertUnwindSafe(|| {
            pi::serve(connection, service);
        }));
        if served.is_err() {
            panicked(service, number);
        }
    }
}

#[inline(never)]
fn panicked(service: &Service, number: u32) {
    service.counters.totals().panicked += 1;
    service
        .log
        .event(Level::Error, "session-panicked")
        .field("session", number)
        .send();
}

//! Ports and addresses: what a start would bind is bound for a moment, and nobody listens there. Two
//! such sockets may have one address until one of them listens, so a server that runs is in nobody's
//! way and has nobody in its own.

use std::io;
use std::net::{IpAddr, SocketAddr};

use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::holder::{self, is_in_the_way, Holder, Own};
use super::{Exit, Report};
use crate::config::Config;
use crate::server;
use crate::sockets;
use crate::tls;

/// So many ports are tried at most.
const MOST_TRIED: u32 = 1000;

/// What became of an address that was tried.
enum Tried {
    Free,
    /// The server that runs has it.
    Own(u32),
    /// It was said why it is neither.
    Said,
}

/// The ports that a start binds before it changes to the account: those for control connections, and
/// those for data connections that sessions share.
pub(super) fn listening(config: &Config, own: &Own<'_>, report: &mut Report) {
    let explicit = config.listen.iter().map(|it| ("listen", it.0));
    let implicit = config.listen_implicit.iter();
    let mut before: Vec<SocketAddr> = Vec::new();
    for (key, address) in explicit.chain(implicit.map(|it| ("listen-implicit", it.0))) {
        match attempt(key, address, &before, own, report) {
            Tried::Free => report.fact(format_args!("{key} {address}: free")),
            Tried::Own(pid) => report.fact(format_args!(
                "{key} {address}: held by the ftpsd that runs, process {pid}"
            )),
            Tried::Said => {}
        }
        before.push(address);
    }
    let Some(ports) = config.shared_ports() else {
        return;
    };
    let (mut held, mut said) = (false, false);
    for port in ports.each() {
        for mut address in server::distinct_addresses(config) {
            address.set_port(port);
            match attempt("passive-ports", address, &before, own, report) {
                Tried::Free => {}
                Tried::Own(_) => held = true,
                Tried::Said => said = true,
            }
        }
    }
    if said {
        return;
    }
    let (count, workers) = (ports.count(), config.workers.0);
    let state = if held {
        "held by the ftpsd that runs"
    } else {
        "free"
    };
    report.fact(format_args!(
        "passive-ports: {count}, which {workers} sessions share, {state}"
    ));
}

fn attempt(
    key: &str,
    address: SocketAddr,
    before: &[SocketAddr],
    own: &Own<'_>,
    report: &mut Report,
) -> Tried {
    let other = before.iter().find(|other| {
        let same = other.port() == address.port() && address.port() != 0;
        same && other.is_ipv4() == address.is_ipv4() && is_in_the_way(other.ip(), address.ip())
    });
    if let Some(other) = other {
        report.error(
            Exit::Unavailable,
            format_args!("{key} {address}: {other} stands before it and has it too: name one"),
        );
        return Tried::Said;
    }
    let Err(error) = sockets::try_to_bind(address) else {
        return Tried::Free;
    };
    if Errno::from_io_error(&error) != Some(Errno::ADDRINUSE) {
        let advice = advice(&error);
        report.error(
            Exit::Unavailable,
            format_args!("{key} {address}: {error}{advice}"),
        );
        return Tried::Said;
    }
    match holder::of(address, own) {
        Holder::Own(pid) => return Tried::Own(pid),
        Holder::Other(name, pid) => {
            let what = match &*name {
                "inetd" | "xinetd" => "take it out of the configuration of that",
                "systemd" => "stop its socket, which `systemctl list-sockets` shows",
                _ => "stop it first",
            };
            report.error(
                Exit::Unavailable,
                format_args!("{key} {address}: taken by {name}, process {pid}: {what}"),
            );
        }
        Holder::Unknown if sees_all() => report.error(
            Exit::Unavailable,
            format_args!("{key} {address}: taken, by what /proc does not show: name another port"),
        ),
        Holder::Unknown => report.warn(format_args!(
            "{key} {address}: taken, by another program or by an ftpsd that runs: root sees by \
             which"
        )),
    }
    Tried::Said
}

/// Whether /proc shows this process what others have open.
fn sees_all() -> bool {
    let sets = rustix::thread::capabilities(None);
    sets.is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_PTRACE))
}

fn advice(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::ADDRNOTAVAIL) => {
            ": no interface has this address now: start the server after the interface, or name \
             0.0.0.0 or [::]"
        }
        Some(Errno::ACCESS) => {
            ": a port below 1024 needs root or CAP_NET_BIND_SERVICE: start it as root, with \
             `account`"
        }
        Some(Errno::AFNOSUPPORT) => ": this kernel has no IPv6: take the address out",
        Some(_) | None => "",
    }
}

/// The ports that sessions of their own bind, as the account: how many are free now.
pub(super) fn passive(config: &Config, report: &mut Report) {
    if config.shared_ports().is_some() {
        return;
    }
    let ports = config.passive_ports;
    let addresses = server::distinct_addresses(config);
    let is_free = |port: u16| {
        addresses.iter().all(|address| {
            let mut address = *address;
            address.set_port(port);
            let refused = sockets::try_to_bind(address).err();
            !refused.is_some_and(|error| {
                let errno = Errno::from_io_error(&error);
                matches!(errno, Some(Errno::ADDRINUSE | Errno::ACCESS))
            })
        })
    };
    let step = ports.count().div_ceil(MOST_TRIED);
    let (mut tried, mut free) = (0_u32, 0_u32);
    for port in ports.each().step_by(step as usize) {
        tried = tried.saturating_add(1);
        free = free.saturating_add(u32::from(is_free(port)));
    }
    let (first, last) = (ports.first, ports.last);
    let workers = u32::from(config.workers.0);
    let count = ports.count();
    if free < workers.min(tried) {
        report.warn(format_args!(
            "passive-ports: {free} of {tried} that were tried are free, for {workers} sessions: \
             name others than {first}-{last}"
        ));
    } else if tried < count {
        report.fact(format_args!(
            "passive-ports: {free} free of {tried} that were tried, {count} in all"
        ));
    } else {
        report.fact(format_args!("passive-ports: {free} free of {count}"));
    }
    let listening = config.listen.iter().chain(&config.listen_implicit);
    for port in listening.map(|address| address.0.port()) {
        if (first..=last).contains(&port) {
            report.fact(format_args!(
                "passive-ports: {port} among them is for control connections and is left out"
            ));
        }
    }
}

/// Where clients are sent, and whether they come at all.
pub(super) fn addresses(config: &Config, report: &mut Report) {
    let mut listening = config.listen.iter().chain(&config.listen_implicit);
    if listening.all(|address| address.0.ip().is_loopback()) {
        report.warn(format_args!(
            "listen: only this device can connect to these addresses: name 0.0.0.0 and [::]"
        ));
    }
    let device = tls::addresses_of_device();
    let top = config.passive_address.iter();
    let tables = config.network.iter();
    for address in top.chain(tables.filter_map(|table| table.passive_address.as_ref())) {
        let address = IpAddr::V4(address.0);
        if address.is_loopback() {
            report.warn(format_args!(
                "passive-address {address}: only this device can connect there: name the address \
                 that clients use"
            ));
        } else if device.contains(&address) {
            report.fact(format_args!(
                "passive-address {address}: this device's own, so it can be left out"
            ));
        } else if !device.is_empty() {
            report.fact(format_args!(
                "passive-address {address}: no interface has it, which is right behind NAT alone"
            ));
        }
    }
}

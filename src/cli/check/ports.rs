//! Ports and addresses: what a start would bind is bound for a moment, and nobody listens there. Two
//! such sockets may have one address until one of them listens, so a server that runs is in nobody's
//! way and has nobody in its own.

use std::io;
use std::net::SocketAddr;

use rustix::io::Errno;
use rustix::thread::CapabilitySet;

use super::holder::{self, Holder, Own};
use super::{Exit, Report};
use crate::config::network::PassiveAddress;
use crate::config::Config;
use crate::server;
use crate::sockets;
use crate::tls;

const PASSIVE: &str = "passive-ports";
/// So many ports are tried at most.
const MOST_TRIED: u32 = 1000;

/// The ports that a start binds before it changes to the account: those for control connections, and
/// those for data connections that sessions share.
pub(super) fn listening(config: &Config, own: &Own<'_>, report: &mut Report) {
    let mut all: Vec<(&str, SocketAddr)> = Vec::new();
    for (key, addresses) in [
        ("listen", &config.listen),
        ("listen-implicit", &config.listen_implicit),
    ] {
        for address in addresses {
            all.push((key, address.0));
        }
    }
    if let Some(ports) = config.shared_ports() {
        let addresses = server::distinct_addresses(config);
        for port in ports.each() {
            for mut address in addresses.iter().copied() {
                address.set_port(port);
                all.push((PASSIVE, address));
            }
        }
    }
    for (number, (key, address)) in all.iter().enumerate() {
        let name = format!("{key} {address}");
        let mut before = all.iter().take(number);
        match before.find(|(_, other)| takes(other, address)) {
            Some((_, other)) => report.error(
                Exit::Unavailable,
                &name,
                &format_args!("{other} stands before it and has it too"),
                "name one",
            ),
            None => attempt(&name, *address, own, report),
        }
    }
}

/// Whether who listens at the one keeps this server from the other.
fn takes(one: &SocketAddr, other: &SocketAddr) -> bool {
    let wide = one.ip().is_unspecified() || other.ip().is_unspecified();
    let same_port = one.port() == other.port() && one.port() != 0;
    // The same address of another link is another one.
    same_port && (one == other || wide && one.is_ipv4() == other.is_ipv4())
}

fn attempt(name: &str, address: SocketAddr, own: &Own<'_>, report: &mut Report) {
    let Err(error) = sockets::try_to_bind(address) else {
        return report.fact(&name, &"free");
    };
    if Errno::from_io_error(&error) != Some(Errno::ADDRINUSE) {
        return report.error(Exit::Unavailable, &name, &error, advice(&error));
    }
    let (text, advice) = match holder::of(address, own) {
        Holder::Own(pid) => {
            return report.fact(
                &name,
                &format_args!("held by the ftpsd that runs, process {pid}"),
            );
        }
        Holder::Other(program, pid) => (
            format!("taken by {program}, process {pid}"),
            match &*program {
                "inetd" | "xinetd" => "take it out of the configuration of that",
                "systemd" => "stop its socket, which `systemctl list-sockets` shows",
                _ => "stop it first",
            },
        ),
        Holder::Unknown if sees_all() => (
            "taken, by what /proc does not show".to_owned(),
            "name another port",
        ),
        Holder::Unknown => {
            let text = "taken, by another program or by an ftpsd that runs";
            return report.warn(&name, &text, "root sees by which");
        }
    };
    report.error(Exit::Unavailable, &name, &text, advice);
}

/// Whether /proc shows this process what others have open.
fn sees_all() -> bool {
    let sets = rustix::thread::capabilities(None);
    sets.is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_PTRACE))
}

fn advice(error: &io::Error) -> &'static str {
    match Errno::from_io_error(error) {
        Some(Errno::ADDRNOTAVAIL) => {
            "no interface has this address now: start the server after the interface, or name \
             0.0.0.0 or [::]"
        }
        Some(Errno::ACCESS) => {
            "a port below 1024 needs root or CAP_NET_BIND_SERVICE: start it as root, with `account`"
        }
        Some(Errno::AFNOSUPPORT) => "this kernel has no IPv6: take the address out",
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
    let step = ports.count().div_ceil(MOST_TRIED);
    let (mut tried, mut free) = (0_u32, 0_u32);
    let mut at = u32::from(ports.first);
    while let Some(port) = u16::try_from(at).ok().filter(|port| *port <= ports.last) {
        at = at.saturating_add(step);
        tried = tried.saturating_add(1);
        let taken = addresses.iter().any(|address| {
            let mut address = *address;
            address.set_port(port);
            let refused = sockets::try_to_bind(address).err();
            let errno = refused.and_then(|error| Errno::from_io_error(&error));
            matches!(errno, Some(Errno::ADDRINUSE | Errno::ACCESS))
        });
        free = free.saturating_add(u32::from(!taken));
    }
    let (count, workers) = (ports.count(), u32::from(config.workers.0));
    let text = format!("{free} free of {tried} that were tried, {count} in all");
    if free < workers.min(tried) {
        let advice = "name others: each of `workers` may need one";
        report.warn(&PASSIVE, &text, advice);
    } else {
        report.fact(&PASSIVE, &text);
    }
    for address in config.listen.iter().chain(&config.listen_implicit) {
        let port = address.0.port();
        if (ports.first..=ports.last).contains(&port) {
            report.fact(
                &PASSIVE,
                &format_args!("{port} among them is for control connections, and left out"),
            );
        }
    }
}

/// Where clients are sent, and whether they come at all.
pub(super) fn addresses(config: &Config, report: &mut Report) {
    let mut listening = config.listen.iter().chain(&config.listen_implicit);
    if listening.all(|address| address.0.ip().is_loopback()) {
        let text = "only this device can connect to these addresses";
        report.warn(&"listen", &text, "name 0.0.0.0 and [::]");
    }
    let device = tls::addresses_of_device();
    let mut look = |address: Option<PassiveAddress>| {
        let Some(PassiveAddress(address)) = address else {
            return;
        };
        let name = format!("passive-address {address}");
        if address.is_loopback() {
            let text = "only this device can connect there";
            report.warn(&name, &text, "name the address that clients use");
        } else if device.contains(&address.into()) {
            report.fact(&name, &"this device's own, so it can be left out");
        } else if !device.is_empty() {
            report.fact(
                &name,
                &"no interface has it, which is right behind NAT alone",
            );
        }
    };
    look(config.passive_address);
    for table in &config.network {
        look(table.passive_address);
    }
}

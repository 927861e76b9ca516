use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;

use super::*;

const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn shared(count: usize) -> Arc<SharedPorts> {
    let listeners = (0..count).map(|_| {
        let listener = sockets::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    });
    Arc::new(SharedPorts::new(listeners.collect()).unwrap())
}

fn asker(session: u32, knows_its_client: bool) -> Asker {
    Asker {
        peer: HERE,
        session,
        knows_its_client,
    }
}

fn lease(ports: &Arc<SharedPorts>, asker: Asker, in_clear_text: bool) -> Lease {
    let (end, _other) = UnixStream::pair().unwrap();
    let ends = [_other.as_fd(), end.as_fd()];
    ports.lease(asker, in_clear_text, ends).unwrap()
}

fn connect(lease: &Lease) -> TcpStream {
    TcpStream::connect((HERE, lease.port())).unwrap()
}

/// Asks without waiting.
fn ask(ports: &SharedPorts, asker: Asker) -> (Number, Arc<OwnedFd>) {
    let wake = Arc::new(event().unwrap());
    let holder = Holder {
        wake: Arc::clone(&wake),
        told: false,
        clear: false,
        first: false,
        silent: 0,
        ready: Vec::new(),
        held_back: false,
    };
    let number = ports.state().leases.ask(asker, holder, Instant::now());
    (number, wake)
}

fn was_woken(wake: &OwnedFd) -> bool {
    let mut fds = [PollFd::new(wake, PollFlags::IN)];
    let woken = wait::poll(&mut fds, Deadline::now()).unwrap();
    clear(wake);
    woken
}

/// No acceptor runs here, as where it has not had its turn yet.
#[test]
fn what_came_for_one_lease_is_not_the_next_one_s() {
    let ports = shared(1);
    let first = lease(&ports, asker(1, false), true);
    let _old = connect(&first);
    drop(first);
    let mut second = lease(&ports, asker(1, false), true);
    assert!(second.take().is_none());
    // Nor what came before the manner was agreed.
    let _old = connect(&second);
    second.protect(false);
    assert!(second.take().is_none());
    let own = connect(&second);
    let taken = second.take().unwrap();
    assert_eq!(taken.peer_addr().unwrap(), own.local_addr().unwrap());
}

#[test]
fn all_who_are_given_a_port_at_once_are_woken_and_so_is_the_next() {
    let ports = shared(2);
    let held = [1, 2].map(|session| lease(&ports, asker(session, true), false));
    drop(held);
    let waiters = [3, 4, 5].map(|session| ask(&ports, asker(session, false)));
    let woken = |expected: [bool; 3]| {
        for ((_, wake), expected) in waiters.iter().zip(expected) {
            assert_eq!(was_woken(wake), expected);
        }
    };
    {
        let mut state = ports.state();
        let certain = state.leases.first_certain(HERE).unwrap();
        state.leases.pass_on(HERE, certain + Duration::from_secs(1));
        tell(&mut state, HERE, waiters[0].0);
    }
    woken([false, true, true]);
    ports.end(HERE, waiters[0].0);
    // Who gives its port back is awake.
    woken([false, false, true]);
}

/// Who asks first and cannot have the port yet leaves; the next one can.
#[test]
fn who_is_given_a_port_because_another_left_the_queue_is_woken() {
    let ports = shared(1);
    drop(lease(&ports, asker(1, true), false));
    let (uncertain, _) = ask(&ports, asker(2, false));
    let (certain, wake) = ask(&ports, asker(3, true));
    assert_eq!(ports.state().leases.port(HERE, certain), None);
    ports.end(HERE, uncertain);
    assert!(ports.state().leases.port(HERE, certain).is_some());
    assert!(was_woken(&wake));
}

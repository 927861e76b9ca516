use super::*;

const ANNA: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1));
const BERT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2));

/// The first port, from there.
const FIRST: Place = Place {
    peer: ANNA,
    port: 1,
};

fn asker(session: u32, knows_its_client: bool) -> Asker {
    Asker {
        peer: ANNA,
        session,
        knows_its_client,
    }
}

fn strict(peer: IpAddr) -> Asker {
    Asker {
        peer,
        session: 0,
        knows_its_client: true,
    }
}

fn leases(ports: &[u16]) -> (Leases<&'static str>, Instant) {
    (Leases::new(ports.to_vec()), Instant::now())
}

#[test]
fn a_port_is_one_session_s_from_each_address() {
    let (mut leases, now) = leases(&[1, 2]);
    let first = leases.ask(strict(ANNA), "first", now);
    let second = leases.ask(strict(ANNA), "second", now);
    let third = leases.ask(strict(ANNA), "third", now);
    let other = leases.ask(strict(BERT), "other", now);
    assert_eq!(leases.port(ANNA, first), Some(1));
    assert_eq!(leases.port(ANNA, second), Some(2));
    assert_eq!(leases.port(ANNA, third), None);
    assert_eq!(leases.port(BERT, other), Some(1));
    assert_eq!(leases.port(BERT, first), None);
    assert_eq!(leases.holder(FIRST), Some((first, &mut "first")));
    assert_eq!(leases.of(FIRST, second), None);
    assert_eq!(leases.end(ANNA, first, now), Some("first"));
    assert_eq!(leases.holder(FIRST), Some((third, &mut "third")));
    assert_eq!(leases.end(ANNA, first, now), None);
    assert_eq!(leases.port(ANNA, third), Some(1));
}

#[test]
fn who_waits_is_served_in_order_and_may_leave() {
    let (mut leases, now) = leases(&[1]);
    let numbers: Vec<Number> = (0..5).map(|_| leases.ask(strict(ANNA), "", now)).collect();
    assert!(leases.is_wanted(ANNA) && !leases.is_wanted(BERT));
    assert!(leases.is_next(ANNA, numbers[1]) && !leases.is_next(ANNA, numbers[2]));
    leases.end(ANNA, numbers[1], now);
    leases.end(ANNA, numbers[3], now);
    for (ended, next) in [(0, 2), (2, 4)] {
        assert_eq!(leases.port(ANNA, numbers[next]), None);
        leases.end(ANNA, numbers[ended], now);
        assert_eq!(leases.port(ANNA, numbers[next]), Some(1));
    }
    assert!(!leases.is_wanted(ANNA));
    leases.end(ANNA, numbers[4], now);
    assert!(leases.held.is_empty() && leases.waiting.is_empty());
}

#[test]
fn the_end_of_a_lease_depends_on_its_use_and_on_who_waits() {
    let (mut leases, now) = leases(&[1, 2]);
    let place = |port| Place { peer: ANNA, port };
    let second = |number| now + Duration::from_secs(number);
    let first = leases.ask(strict(ANNA), "", now);
    let other = leases.ask(strict(ANNA), "", second(60));
    assert_eq!(leases.first_to_end(ANNA), None);
    leases.ask(strict(ANNA), "", second(100));
    leases.used(place(2));
    let end = leases.first_to_end(ANNA);
    assert_eq!(end, Some((first, place(1), second(100) + UNUSED)));
    leases.ask(strict(ANNA), "", second(101));
    leases.end(ANNA, first, second(102));
    let end = leases.first_to_end(ANNA);
    assert_eq!(end.map(|(_, place, _)| place.port), Some(1));
    assert_eq!(end.map(|(_, _, end)| end), Some(second(102) + UNUSED));
    leases.used(place(1));
    let end = leases.first_to_end(ANNA);
    assert_eq!(end, Some((other, place(2), second(101) + LOOKED_AT)));
}

#[test]
fn a_renewed_lease_is_not_found_by_its_old_number() {
    let (mut leases, now) = leases(&[1]);
    let old = leases.ask(strict(ANNA), "", now);
    let new = leases.renew(FIRST, old);
    assert_eq!(leases.of(FIRST, old), None);
    assert_eq!(leases.of(FIRST, new), Some(&mut ""));
    assert_eq!(leases.renew(FIRST, old), old);
    leases.end(ANNA, new, now);
    assert!(leases.held.is_empty());
}

/// What the next session would give to a client of the last one it must not have.
#[test]
fn a_port_whose_client_may_still_come_is_for_those_who_know_theirs() {
    let (mut leases, now) = leases(&[1]);
    let first = leases.ask(asker(1, false), "", now);
    leases.end(ANNA, first, now);
    // Its own late client is no stranger to it.
    let again = leases.ask(asker(1, false), "", now);
    assert_eq!(leases.port(ANNA, again), Some(1));
    assert!(!leases.is_doubtful(FIRST, now));
    leases.end(ANNA, again, now);
    let knowing = leases.ask(asker(2, true), "", now);
    assert_eq!(leases.port(ANNA, knowing), Some(1));
    assert!(leases.is_doubtful(FIRST, now));
    leases.reached(FIRST, now);
    let other = leases.ask(asker(3, false), "", now);
    leases.end(ANNA, knowing, now);
    assert_eq!(leases.port(ANNA, other), None);
    assert_eq!(leases.first_certain(ANNA), Some(now + LATE));
    leases.pass_on(ANNA, now + LATE);
    assert_eq!(leases.port(ANNA, other), Some(1));
    assert!(!leases.is_doubtful(FIRST, now + LATE));
    // One whose client came has none that still comes.
    leases.reached(FIRST, now + LATE);
    leases.end(ANNA, other, now + LATE);
    let last = leases.ask(asker(4, false), "", now + LATE);
    assert_eq!(leases.port(ANNA, last), Some(1));
}

/// There was nothing to wait for, and so the wait was over at once, again and again.
#[test]
fn only_a_port_that_nobody_has_becomes_certain() {
    let (mut leases, now) = leases(&[1]);
    let first = leases.ask(asker(1, true), "", now);
    leases.end(ANNA, first, now);
    assert_eq!(leases.first_certain(ANNA), None, "nobody waits");
    let holder = leases.ask(asker(2, true), "", now);
    leases.ask(asker(3, false), "", now);
    assert_eq!(leases.first_certain(ANNA), None);
    leases.end(ANNA, holder, now);
    assert_eq!(leases.first_certain(ANNA), Some(now + LATE));
}

#[test]
fn no_more_leave_than_there_are_who_wait() {
    let (mut leases, now) = leases(&[1, 2, 3]);
    let asker = |session| asker(session, false);
    for session in 0..4 {
        leases.ask(asker(session), "", now);
    }
    let (number, _, end) = leases.first_to_end(ANNA).unwrap();
    leases.end(ANNA, number, end);
    assert_eq!(leases.first_to_end(ANNA), None);
    leases.ask(asker(4), "", end);
    assert!(leases.first_to_end(ANNA).is_some());
}

/// Two sessions' clients may come: neither session is alone with its own.
#[test]
fn a_port_may_be_late_for_several() {
    let (mut leases, now) = leases(&[1]);
    for session in [1, 2] {
        let number = leases.ask(asker(session, true), "", now);
        // It was not the client of the second that came, as far as is known.
        if session == 2 {
            leases.reached(FIRST, now);
        }
        leases.end(ANNA, number, now);
    }
    let again = leases.ask(asker(2, false), "", now);
    assert_eq!(leases.port(ANNA, again), None);
}

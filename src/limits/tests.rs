use std::path::Path;

use proptest::prelude::*;

use super::*;

fn config(top: &str) -> Config {
    let text =
        format!("listen = [\"127.0.0.1:0\"]\n{top}\n[[certificate]]\nchain = \"c\"\nkey = \"k\"\n");
    Config::parse(&text, Path::new("f")).unwrap()
}

fn admit(limits: &Arc<Limits>, config: &Config, peer: &str) -> Result<Slot, Refusal> {
    limits.admit(config, peer.parse().unwrap(), Instant::now())
}

fn refusal(limits: &Arc<Limits>, config: &Config, peer: &str) -> Option<Refusal> {
    admit(limits, config, peer).err()
}

#[test]
fn networks() {
    let limits = Limits::new(16);
    let config = config(
        "allow = [\"192.0.2.0/24\", \"fd00::/16\"]\ndeny = [\"192.0.2.128/25\", \"fd00:0:0:1::/64\"]",
    );
    for (peer, expected) in [
        ("192.0.2.7", None),
        ("::ffff:192.0.2.7", None),
        ("192.0.2.200", Some(Refusal::Deny)),
        ("::ffff:192.0.2.200", Some(Refusal::Deny)),
        ("192.0.3.7", Some(Refusal::Allow)),
        ("fd00::1", None),
        ("fd00:0:0:1::1", Some(Refusal::Deny)),
        ("fd01::1", Some(Refusal::Allow)),
    ] {
        assert_eq!(refusal(&limits, &config, peer), expected, "{peer}");
    }
}

#[test]
fn an_ipv6_network_of_64_bits_counts_as_one_address() {
    let limits = Limits::new(16);
    let config = config("sessions-per-address = 1");
    let _slots = ["2001:db8::1", "192.0.2.7"].map(|peer| admit(&limits, &config, peer).unwrap());
    for (peer, expected) in [
        ("2001:db8::ffff:1:2:3", Some(Refusal::PerAddress)),
        ("2001:db8:0:1::1", None),
        ("192.0.2.7", Some(Refusal::PerAddress)),
        ("::ffff:192.0.2.7", Some(Refusal::PerAddress)),
        ("192.0.2.8", None),
    ] {
        assert_eq!(refusal(&limits, &config, peer), expected, "{peer}");
    }
}

#[test]
fn a_login_makes_room_before_the_login() {
    let limits = Limits::new(4);
    let config = config("sessions-before-login = 2");
    let mut first = admit(&limits, &config, "192.0.2.1").unwrap();
    let second = admit(&limits, &config, "192.0.2.2").unwrap();
    let peer = "192.0.2.3";
    assert_eq!(refusal(&limits, &config, peer), Some(Refusal::BeforeLogin));
    assert!(first.log_in("anna", None));
    let third = admit(&limits, &config, peer).unwrap();
    // USER after the login: above the limit now.
    first.log_out();
    let running = |sessions, before_login| Running {
        sessions,
        before_login,
    };
    assert_eq!(limits.running(), running(3, 3));
    drop(second);
    assert_eq!(refusal(&limits, &config, peer), Some(Refusal::BeforeLogin));
    drop((first, third));
    assert_eq!(limits.running(), running(0, 0));
}

#[test]
fn no_more_sessions_than_workers() {
    let limits = Limits::new(2);
    let config = config("sessions-per-address = 9\nsessions-before-login = 9");
    let slots = ["192.0.2.1", "192.0.2.1"].map(|peer| admit(&limits, &config, peer).unwrap());
    assert_eq!(
        refusal(&limits, &config, "192.0.2.1"),
        Some(Refusal::Workers)
    );
    drop(slots);
    assert_eq!(refusal(&limits, &config, "192.0.2.1"), None);
}

#[test]
fn sessions_of_one_user() {
    let limits = Limits::new(9);
    let config = config("");
    let mut slots =
        ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(|peer| admit(&limits, &config, peer).unwrap());
    let [first, second, third] = &mut slots;
    assert!(first.log_in("anna", Some(1)));
    assert!(!second.log_in("anna", Some(1)));
    assert!(third.log_in("bert", Some(1)));
    // Its own session is not in a user's way.
    assert!(first.log_in("anna", Some(1)));
    first.log_out();
    assert!(second.log_in("anna", Some(1)));
    // A larger limit counts at once.
    assert!(first.log_in("anna", Some(2)));
    drop(slots);
    let slots = limits.slots();
    assert!(slots.by_user.is_empty() && slots.by_source.is_empty());
    assert_eq!(slots.running(), Running::default());
}

#[test]
fn a_panic_gives_the_slot_back() {
    let limits = Limits::new(1);
    let config = config("");
    let mut slot = admit(&limits, &config, "192.0.2.1").unwrap();
    let session = std::thread::spawn(move || {
        assert!(slot.log_in("anna", None));
        panic!("a defect");
    });
    assert!(session.join().is_err());
    assert_eq!(limits.running(), Running::default());
    assert_eq!(refusal(&limits, &config, "192.0.2.1"), None);
}

#[test]
fn an_address_that_failed_too_often_is_not_admitted() {
    let limits = Limits::new(9);
    let config = config("");
    let source = Source::of("192.0.2.1".parse().unwrap());
    let now = Instant::now();
    let penalty = config.login_penalty.duration();
    for number in 0..10 {
        let mut penalties = limits.penalties();
        penalties.failed(source, &[number], penalty, now);
    }
    let peer = "192.0.2.1".parse().unwrap();
    let at = |after| limits.admit(&config, peer, now + after).err();
    assert_eq!(at(penalty / 2), Some(Refusal::Penalty));
    assert_eq!(at(penalty), None);
    assert_eq!(refusal(&limits, &config, "192.0.2.2"), None);
}

proptest! {
    /// Whatever comes and goes in whatever order: no limit is passed by an admission, and all is
    /// given back.
    #[test]
    fn counts_are_those_of_the_sessions(steps in prop::collection::vec((0u8..6, 0u8..3, 0usize..8), 0..200)) {
        let limits = Limits::new(6);
        let config = config("sessions-per-address = 3\nsessions-before-login = 4");
        let mut sessions: Vec<(u8, Option<u8>, Slot)> = Vec::new();
        for (what, who, which) in steps {
            let from = |who| sessions.iter().filter(|session| session.0 == who).count();
            let before = sessions.iter().filter(|session| session.1.is_none()).count();
            match (what, sessions.len()) {
                (0 | 1, all) => {
                    let free = from(who) < 3 && before < 4 && all < 6;
                    let slot = admit(&limits, &config, &format!("192.0.2.{who}"));
                    prop_assert_eq!(slot.is_ok(), free);
                    sessions.extend(slot.ok().map(|slot| (who, None, slot)));
                }
                (_, 0) => {}
                (2 | 3, all) => {
                    let session = &mut sessions[which % all];
                    session.1 = None;
                    session.2.log_out();
                    let same = sessions.iter().filter(|session| session.1 == Some(who)).count();
                    let session = &mut sessions[which % all];
                    let accepted = session.2.log_in(&who.to_string(), Some(2));
                    prop_assert_eq!(accepted, same < 2);
                    session.1 = accepted.then_some(who);
                }
                (4, all) => {
                    let session = &mut sessions[which % all];
                    session.2.log_out();
                    session.1 = None;
                }
                (_, all) => drop(sessions.swap_remove(which % all)),
            }
            let before_login = sessions.iter().filter(|session| session.1.is_none()).count();
            let expected = Running { sessions: sessions.len(), before_login };
            prop_assert_eq!(limits.running(), expected);
        }
        drop(sessions);
        let slots = limits.slots();
        prop_assert!(slots.by_user.is_empty() && slots.by_source.is_empty());
        prop_assert_eq!(slots.running(), Running::default());
    }
}

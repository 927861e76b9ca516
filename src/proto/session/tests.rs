use super::*;
use crate::proto::parameters::Rights;

const POLICY: Policy = Policy {
    ascii: true,
    ipv6: false,
    active: None,
};

fn parse(line: &str) -> Result<Command, CommandError> {
    Command::parse(line.as_bytes())
}

fn logged_in() -> Session {
    let (session, _) = Session::greet_secured();
    let Step::Reply(session, _) = session.decide(parse("USER a"), &POLICY) else {
        panic!("USER is answered")
    };
    let Step::Perform(Work::Authenticate(work)) = session.decide(parse("PASS x"), &POLICY) else {
        panic!("PASS is work")
    };
    match work.finished(Verdict::Accepted(Rights::FULL.into())) {
        Step::Reply(session, _) => session,
        Step::Silent(_) | Step::Perform(_) | Step::Close(..) => panic!("accepted"),
    }
}

fn transfer() -> Transfer {
    let Step::Perform(Work::Listen(work)) = logged_in().decide(parse("EPSV"), &POLICY) else {
        panic!("EPSV is work")
    };
    let (session, _) = work.finished(Some(([127, 0, 0, 1], 50_000).into()));
    let Step::Perform(Work::Transfer(work)) = session.decide(parse("RETR a"), &POLICY) else {
        panic!("RETR is work")
    };
    work
}

fn running() -> Running {
    let (mut running, mark) = transfer().begin();
    assert_eq!(mark.code(), 150);
    running.mark_sent();
    running
}

#[test]
fn before_the_mark_nothing_is_answered() {
    let (mut running, _) = transfer().begin();
    for line in ["NOOP", "STAT", "PWD"] {
        assert_eq!(running.hear(parse(line), 0), Heard::Defer, "{line}");
    }
    assert_eq!(running.hear(parse("ABOR"), 0), Heard::Abort);
}

#[test]
fn a_password_in_clear_text_never_becomes_work() {
    let (mut session, _) = Session::greet(None);
    for line in ["USER a", "PASS secret", "USER a", "PASS secret"] {
        match session.decide(parse(line), &POLICY) {
            Step::Reply(next, reply) => {
                assert_eq!(reply.code(), 530);
                session = next;
            }
            other @ (Step::Silent(_) | Step::Perform(_) | Step::Close(..)) => panic!("{other:?}"),
        }
    }
}

#[test]
fn replies_keep_the_order_of_their_commands() {
    let mut running = running();
    assert!(matches!(running.hear(parse("NOOP"), 0), Heard::Answer(_)));
    assert_eq!(running.hear(parse("CWD a"), 0), Heard::Defer);
    assert_eq!(running.hear(parse("NOOP"), 0), Heard::Defer);
    assert_eq!(running.hear(parse("ABOR"), 0), Heard::Abort);
    assert!(!running.listens());
    let finished = running.finished(Err(crate::proto::outcome::TransferError::Aborted));
    assert_eq!(finished.reply.code(), 426);
    assert_eq!(
        Vec::from(finished.deferred),
        [parse("CWD a"), parse("NOOP"), parse("ABOR")]
    );
}

#[test]
fn deferred_commands_are_bounded() {
    let mut running = running();
    let mut heard = 0;
    while running.listens() {
        running.hear(parse("PWD"), 0);
        heard += 1;
        assert!(heard < 1000);
    }
    assert_eq!(heard, 16);
}

#[test]
fn status_during_a_transfer_counts_its_bytes() {
    let mut running = running();
    let Heard::Answer(reply) = running.hear(parse("STAT"), 12_345) else {
        panic!("answered")
    };
    assert_eq!(reply.code(), 213);
    assert!(String::from_utf8_lossy(reply.text()).contains("12345"));
}

use super::*;

#[test]
fn a_full_disk_is_452_before_and_after_the_mark() {
    let full = TransferError::Local(FileError::new(FileErrorKind::NoSpace));
    assert_eq!(full.reply_before_mark().code(), 452);
    assert_eq!(full.reply_after_mark().code(), 452);
}

#[test]
fn a_missing_file_is_550_before_the_mark_and_451_after() {
    let missing = TransferError::Local(FileError::new(FileErrorKind::NotFound));
    assert_eq!(missing.reply_before_mark().code(), 550);
    assert_eq!(missing.reply_after_mark().code(), 451);
}

/// What a person at the client reads.
#[test]
fn each_refusal_is_a_short_sentence() {
    let kinds = [
        FileErrorKind::NotFound,
        FileErrorKind::Denied,
        FileErrorKind::NotAFile,
        FileErrorKind::NotADirectory,
        FileErrorKind::Exists,
        FileErrorKind::MayNotReplace,
        FileErrorKind::MayNotMake,
        FileErrorKind::NotEmpty,
        FileErrorKind::Links,
        FileErrorKind::ReadOnly,
        FileErrorKind::NameInvalid,
        FileErrorKind::BeyondEnd,
        FileErrorKind::Unfinished,
        FileErrorKind::NoSpace,
        FileErrorKind::TooLarge,
        FileErrorKind::Busy,
        FileErrorKind::Failed,
    ];
    let unbound = |decided, tickets_spent| {
        TransferError::NotThisSession(Unbound {
            decided,
            tickets_spent,
        })
    };
    let all = [
        TransferError::NoConnection(50_000, 65_535),
        TransferError::Unreachable,
        TransferError::Handshake,
        unbound(Decided::Network, true),
        unbound(Decided::User, false),
        TransferError::ForeignSession,
        TransferError::Network,
        TransferError::Truncated,
        TransferError::Stalled,
        TransferError::TooSlow,
        TransferError::OutOfTime,
        TransferError::Aborted,
        TransferError::ControlLost,
        TransferError::Stopping,
    ];
    let errors = kinds.map(FileError::new);
    let files = errors
        .iter()
        .flat_map(|error| [error.reply(), error.reply_to_name()]);
    let transfers = all.iter().map(|error| error.reply_after_mark());
    for reply in files.chain(transfers) {
        let text = String::from_utf8(reply.text().to_vec()).unwrap();
        assert!(reply.code() >= 400, "{text}");
        assert!(text.len() <= 150 && text.ends_with('.'), "{text}");
    }
}

#[test]
fn a_refused_data_session_names_its_setting_and_what_helps() {
    let text = |decided, tickets_spent| {
        let unbound = Unbound {
            decided,
            tickets_spent,
        };
        let reply = TransferError::NotThisSession(unbound).reply_after_mark();
        assert_eq!(reply.code(), 522);
        String::from_utf8(reply.text().to_vec()).unwrap()
    };
    for (decided, setting) in [
        (Decided::TopLevel, "(data-session = \"required\")"),
        (
            Decided::Network,
            "(data-session = \"required\" in [[network]])",
        ),
        (Decided::User, "(data-session = \"required\" in [[user]])"),
    ] {
        for spent in [false, true] {
            let text = text(decided, spent);
            assert!(text.contains(setting), "{text}");
            assert_eq!(text.contains("tls-max = \"1.2\""), spent, "{text}");
        }
    }
}

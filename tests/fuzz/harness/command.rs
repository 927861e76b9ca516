//! Commands out of lines.

use ftpsd::proto::command::{Command, CommandError};

/// A line is a command or not, whatever the case of its verb, and no password prints.
pub fn command(input: &[u8]) {
    let command = Command::parse(input);
    let verb = verb(input);
    for change in [u8::to_ascii_uppercase, u8::to_ascii_lowercase] {
        let mut line = input.to_vec();
        for byte in line.iter_mut().take(verb.len()) {
            *byte = change(byte);
        }
        assert_eq!(Command::parse(&line), command);
    }
    let known = Command::VERBS.iter().any(|known| known.as_bytes() == verb);
    match &command {
        Ok(Command::Pass(password)) => {
            assert_eq!(format!("{command:?}"), "Ok(Pass(Password(..)))");
            assert_eq!(Some(password.expose()), Some(argument(input)));
        }
        Ok(_) => assert!(known, "a verb that is not in the list"),
        Err(CommandError::Unknown | CommandError::NotImplemented) => assert!(!known),
        Err(CommandError::Syntax(_) | CommandError::Parameter(_)) => assert!(known),
        Err(CommandError::TooLong) => panic!("only the line reader knows that"),
    }
}

/// Up to the first space, in capitals.
pub(super) fn verb(line: &[u8]) -> Vec<u8> {
    let verb = line.split(|&byte| byte == b' ').next();
    verb.unwrap_or_default().to_ascii_uppercase()
}

/// What follows that space.
pub(super) fn argument(line: &[u8]) -> &[u8] {
    let space = line.iter().position(|&byte| byte == b' ');
    space.map_or(&b""[..], |space| line.split_at(space + 1).1)
}

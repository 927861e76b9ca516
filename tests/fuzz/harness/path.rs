//! Pathnames.

use ftpsd::proto::path::{is_reserved, PathError, VirtualPath, LONGEST_NAME, LONGEST_PATH};
use ftpsd::proto::reply::Reply;

use super::reply::check_reply;

/// Pathnames, each relative to the one before it; byte 1 separates them. No byte of a pathname,
/// not even of a refused one, can end a reply.
pub fn path(input: &[u8]) {
    let mut directory = VirtualPath::root();
    for pathname in input.split(|&byte| byte == 1) {
        check_reply(&Reply::pathname(pathname, "made."));
        check_reply(&Reply::multi_line(
            250,
            "Facts:",
            [pathname.to_vec()],
            "End.",
        ));
        match directory.join(pathname) {
            Ok(path) => {
                assert_eq!(
                    stack_of(&directory, pathname),
                    path.components().collect::<Vec<_>>()
                );
                check_path(&path);
                directory = path;
            }
            Err(PathError::ForbiddenByte) => {
                assert!(pathname.iter().any(|byte| b"\0\r\n".contains(byte)));
            }
            Err(PathError::Reserved) => {
                let mut names = pathname.split(|&byte| byte == b'/');
                assert!(names.any(belongs_to_the_server));
            }
            Err(PathError::TooLong) => {
                let mut names = pathname.split(|&byte| byte == b'/');
                let length = directory.as_bytes().len() + 1 + pathname.len();
                assert!(length > LONGEST_PATH || names.any(|name| name.len() > LONGEST_NAME));
            }
        }
    }
}

fn stack_of<'a>(directory: &'a VirtualPath, pathname: &'a [u8]) -> Vec<&'a [u8]> {
    let mut stack: Vec<&[u8]> = Vec::new();
    if !pathname.starts_with(b"/") {
        stack.extend(directory.components());
    }
    for name in pathname.split(|&byte| byte == b'/') {
        match name {
            b"" | b"." => {}
            b".." => {
                stack.pop();
            }
            name => stack.push(name),
        }
    }
    stack
}

/// It is in its normal form.
pub(super) fn check_path(path: &VirtualPath) {
    let bytes = path.as_bytes();
    assert!(bytes.starts_with(b"/") && bytes.len() <= LONGEST_PATH);
    for name in path.components() {
        assert!(!matches!(name, b"" | b"." | b"..") && name.len() <= LONGEST_NAME);
        assert!(!name.iter().any(|byte| b"\0\r\n/".contains(byte)));
        assert!(!is_reserved(name) && !belongs_to_the_server(name));
    }
    // The normal form is one: it means itself, from anywhere.
    for from in [&VirtualPath::root(), path] {
        assert_eq!(from.join(bytes).as_ref(), Ok(path));
        assert_eq!(path.join(b".").as_ref(), Ok(path));
    }
    assert_eq!(path.join(b".."), Ok(path.parent()));
    assert_eq!(path.is_root(), path.name().is_none());
    assert!(!path.as_relative().starts_with(b"/") && !path.as_relative().is_empty());
    if let Some(name) = path.name() {
        assert_eq!(path.parent().child(name).as_ref(), Ok(path));
    }
}

/// Whether some file system may take it for the name of a partial upload: one that does not tell
/// capitals from small letters, one that folds as Unicode does or leaves out what it cannot read,
/// or one that gives a second name of eight letters.
fn belongs_to_the_server(name: &[u8]) -> bool {
    let text = String::from_utf8_lossy(name).replace('\u{17f}', "s");
    let seen: String = text.chars().filter(char::is_ascii).collect();
    let short = seen.trim_end_matches('.').to_ascii_lowercase();
    let second = name.is_ascii() && short.len() == 8 && {
        let (base, number) = short.split_at(6);
        let made = base == "ftpsd-"
            || base.starts_with("ft") && base[2..].chars().all(|char| char.is_ascii_hexdigit());
        made && number.starts_with('~') && number.ends_with(|char: char| char.is_ascii_digit())
    };
    seen.to_ascii_lowercase().starts_with(".ftpsd-") || second
}

//! A device whose file systems are read-only but for /run and the data.

use std::fs;

use crate::background::{adopt, Background};
use crate::namespace::{run, setup};

/// Everything read-only, then /run and the users' directory writable; then the server is started
/// and says its number. What the namespace has in /run is seen in it alone.
const DEVICE: &str = r#"
mount --make-rprivate /
mount --bind "$DATA" "$DATA"
awk '{ print $2 }' /proc/self/mounts | while read -r place; do
    case $place in
        "$DATA" | /proc | /proc/* | /dev | /dev/* | /sys | /sys/*) ;;
        *) mount -o remount,bind,ro "$place" ;;
    esac
done
mount -t tmpfs -o mode=755 tmpfs /run
"#;

#[test]
#[ignore = "needs root: make test"]
fn it_starts_in_the_background_and_serves() {
    let setup = setup("");
    setup.replace(
        &format!("{:?}", setup.pid_file()),
        "\"/run/ftpsd.pid\"\nstate-dir = \"/run/ftpsd\"",
    );
    adopt();
    // The check is that of the test: that nothing else can be written to.
    let how = "! touch \"$CONFIG/new\" /var/new /tmp/new 2>/dev/null\n\"$@\" >&2\n\
               cat /run/ftpsd.pid\nls -ld /run/ftpsd >&2";
    let mut command = run(&setup, DEVICE, how);
    command
        .env("DATA", setup.path("root"))
        .env("CONFIG", setup.config.parent().unwrap());
    let finished = setup.run(&mut command);
    let number = String::from_utf8(finished.stdout).unwrap();
    assert!(!number.is_empty(), "{}", finished.stderr);
    let background = Background::adopted(&number);
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("drwx------"),
        "{}",
        finished.stderr
    );
    let mut client = setup.client();
    client.store("STOR file", b"content");
    assert_eq!(client.retrieve("RETR file"), b"content");
    assert_eq!(fs::read(setup.path("root/file")).unwrap(), b"content");
    background.stop();
}

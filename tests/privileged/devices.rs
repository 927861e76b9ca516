//! Devices in a user's directory, which only root can make, are never opened.

use std::fs;
use std::os::unix::fs::{symlink, FileTypeExt, PermissionsExt};

use rustix::fs::{makedev, FileType, Mode, CWD};

use crate::kernel;
use crate::namespace::{ftpsd, setup};

/// /dev/zero, which has no end, and a block device that is not there.
const DEVICES: [(&str, FileType, u32, u32); 2] = [
    ("zero", FileType::CharacterDevice, 1, 5),
    ("disk", FileType::BlockDevice, 7, 250),
];

#[test]
#[ignore = "needs root: make test"]
fn devices_are_not_opened() {
    for lacking in [&[][..], &["openat2"]] {
        let setup = setup("");
        for (name, kind, major, minor) in DEVICES {
            let path = setup.path("root").join(name);
            let number = makedev(major, minor);
            rustix::fs::mknodat(CWD, &path, kind, Mode::from_raw_mode(0o666), number).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
            symlink(name, setup.path("root").join(format!("to-{name}"))).unwrap();
        }
        let (background, _) = kernel::lacking(lacking, || setup.start(&mut ftpsd(&setup, "")));
        let mut client = setup.client();
        for (name, ..) in DEVICES {
            for name in [name.to_owned(), format!("to-{name}")] {
                for verb in ["HASH", "SIZE", "MFMT 20160606060606", "CWD", "RMD", "MLSD"] {
                    let reply = client.command(format!("{verb} {name}"));
                    assert!(reply.code >= 400, "{verb} {name}: {}", reply.text());
                }
                for commands in ["RETR", "REST 1\nRETR", "APPE", "REST 1\nSTOR"] {
                    client.passive();
                    let command = format!("{commands} {name}");
                    let replies = command.lines().map(|command| client.command(command).code);
                    let code = replies.last().unwrap();
                    assert!(matches!(code, 550 | 553), "{command}: {code}");
                }
            }
            // In the place of the link there is a file then; the device stays.
            client.passive();
            client.expect(format!("STOR {name}"), 553);
            client.store(format!("STOR to-{name}"), b"content");
            let listed = String::from_utf8(client.retrieve("MLSD")).unwrap();
            let own = listed
                .lines()
                .find(|line| line.ends_with(&format!(" {name}")));
            assert!(
                own.is_none_or(|line| !line.contains("type=file")),
                "{listed}"
            );
        }
        let kind = |name| {
            fs::metadata(setup.path("root").join(name))
                .unwrap()
                .file_type()
        };
        assert!(kind("zero").is_char_device() && kind("disk").is_block_device());
        background.stop();
    }
}

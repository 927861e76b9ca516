//! What of a partial is known to be on the medium.

use std::os::unix::fs::PermissionsExt;

use super::storage::refusal;
use super::*;

/// After a power cut a partial can be longer than what was written of it, and a crash leaves none
/// sealed.
#[test]
fn only_what_is_known_to_be_on_the_medium_is_resumed() {
    const EVERY: u64 = 8 << 20;
    for (place, root) in tree_twice() {
        let partial = || {
            let entries = fs::read_dir(place.path().join("root")).unwrap();
            let mut paths = entries.map(|entry| entry.unwrap().path());
            paths.find(|path| path.to_string_lossy().contains("/.ftpsd-"))
        };
        let mode = || {
            fs::metadata(partial().unwrap())
                .unwrap()
                .permissions()
                .mode()
        };
        broken(&root, "new", "0123456789");
        assert_eq!(mode() & 0o1000, 0o1000, "sealed");
        let told = root.examine(&path("new")).unwrap();
        assert_eq!((told.size, told.mode & 0o7000), (9, 0));
        // It stays sealed until the first byte comes, and is sealed again afterwards.
        drop(
            root.store(
                &path("new"),
                StoreRequest {
                    offset: Some(5),
                    ..STORE
                },
            )
            .unwrap(),
        );
        assert_eq!(
            (mode() & 0o1000, root.examine(&path("new")).unwrap().size),
            (0o1000, 9)
        );
        let mut upload = root
            .store(
                &path("new"),
                StoreRequest {
                    offset: Some(10),
                    ..STORE
                },
            )
            .unwrap();
        upload.write(b"a").unwrap();
        assert_eq!(mode() & 0o1000, 0);
        drop(upload);
        assert_eq!(
            (mode() & 0o1000, root.examine(&path("new")).unwrap().size),
            (0o1000, 10)
        );
        // Without the seal.
        let open = |mode: u32, length: u64| {
            let file = fs::File::options()
                .write(true)
                .open(partial().unwrap())
                .unwrap();
            file.set_permissions(fs::Permissions::from_mode(mode))
                .unwrap();
            file.set_len(length).unwrap();
        };
        for (length, reliable) in [
            (11, 0),
            (EVERY, 0),
            (EVERY + 1, EVERY),
            (2 * EVERY, EVERY),
            (2 * EVERY + 1, 2 * EVERY),
        ] {
            open(0o644, length);
            let size = root.examine(&path("new")).unwrap().size;
            assert_eq!(size, reliable.saturating_sub(1), "{length}");
            let request = StoreRequest {
                offset: Some(reliable + 1),
                ..STORE
            };
            assert_eq!(refusal(&root, "new", request), FileErrorKind::BeyondEnd);
            drop(
                root.store(
                    &path("new"),
                    StoreRequest {
                        offset: Some(reliable),
                        ..STORE
                    },
                )
                .unwrap(),
            );
            drop(
                root.store(
                    &path("new"),
                    StoreRequest {
                        offset: None,
                        ..STORE
                    },
                )
                .unwrap(),
            );
        }
        // Who asks for no such thing gets all of it.
        let careless = Root {
            storage: Storage {
                durable: false,
                ..Storage::default()
            },
            ..root
        };
        assert_eq!(careless.examine(&path("new")).unwrap().size, 2 * EVERY);
        let root = Root {
            storage: Storage::default(),
            ..careless
        };
        open(0o644, EVERY + 5);
        assert_eq!(put(&root, "new", Some(EVERY), "end"), Ok(Origin::Partial));
        let published = place.path().join("root/new");
        assert_eq!(fs::metadata(&published).unwrap().len(), EVERY + 3);
        assert_eq!(
            fs::metadata(&published).unwrap().permissions().mode() & 0o1000,
            0
        );
        // One that is whole is published without its seal, too.
        broken(&root, "whole", "all");
        assert_eq!(put(&root, "whole", Some(3), ""), Ok(Origin::Partial));
        let mode = fs::metadata(place.path().join("root/whole"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o7000, 0);
        assert_eq!(content(&root, "whole"), Ok("all".into()));
    }
}

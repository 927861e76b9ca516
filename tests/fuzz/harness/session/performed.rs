//! Work that was performed, and transfers under way.

use ftpsd::proto::command::Command;
use ftpsd::proto::outcome::{FileError, Hangup, TransferError};
use ftpsd::proto::parameters::Right;
use ftpsd::proto::session::{
    Digest, Examine, FileAnswer, FileTask, FileWork, Finished, Hash, Hashing, Heard, Identity,
    Running, Status, Step, Transfer, TransferTask, Unique, Verdict, Work,
};

use super::super::path::check_path;
use super::super::reply::{check_reply, check_wire};
use super::outcomes::{
    chosen, counts, file_outcome, transfer_outcome, Granted, FILE_ERRORS, VERDICTS,
};
use super::{Place, Run};

impl Run {
    pub(super) fn perform(&mut self, work: Work, outcome: &[u8]) {
        match work {
            Work::Secure(secure) => {
                self.secured = true;
                let mut session = secure.finished();
                if outcome.first() == Some(&b'c') {
                    self.certified = true;
                    session = session.with_certificate();
                }
                self.place = Place::Between(session);
            }
            Work::Identify(work) if outcome.first() == Some(&b'p') => {
                match work.finished(Identity::PasswordNeeded) {
                    Step::Reply(session, reply) => {
                        assert_eq!(self.answer(&reply), 331);
                        self.place = Place::Between(session);
                    }
                    step @ (Step::Silent(_) | Step::Perform(_) | Step::Close(..)) => {
                        panic!("{step:?} before a password")
                    }
                }
            }
            Work::Identify(work) => {
                let decided = chosen(&VERDICTS, outcome);
                let verdict = decided.map_or_else(|verdict| verdict(), Granted::verdict);
                let step = work.finished(Identity::Known(verdict.clone()));
                self.logged_in(step, &verdict, decided.ok(), 232);
            }
            Work::Authenticate(work) => {
                let decided = chosen(&VERDICTS, outcome);
                let verdict = decided.map_or_else(|verdict| verdict(), Granted::verdict);
                let step = work.finished(verdict.clone());
                self.logged_in(step, &verdict, decided.ok(), 230);
            }
            Work::Listen(listen) => {
                let address = match outcome.first() {
                    Some(b'-') => None,
                    Some(b'6') => Some(([0, 0, 0, 0, 0, 0, 0, 1], 50_001).into()),
                    Some(_) | None => Some(([127, 0, 0, 1], 50_001).into()),
                };
                let (session, reply) = listen.finished(address);
                let code = self.answer(&reply);
                assert!(matches!(code, 227 | 229 | 425));
                self.endpoint = code != 425;
                self.connect_to = None;
                self.place = Place::Between(session);
            }
            Work::File(work) => self.file_done(work, file_outcome(outcome)),
            Work::Transfer(work) => self.start(work, transfer_outcome(outcome)),
            Work::Unique(work) => self.name(work, outcome),
            Work::Hash(work) => self.hash(work),
            Work::Status(work) => self.status(work, outcome),
        }
    }

    /// A first byte `-` means that there are no random numbers.
    fn name(&mut self, work: Unique, outcome: &[u8]) {
        self.endpoint = false;
        let random = (outcome.first() != Some(&b'-')).then_some([7; 8]);
        match work.named(random) {
            Step::Perform(work @ Work::Transfer(_)) => {
                if let Work::Transfer(transfer) = &work {
                    let TransferTask::Store { path, request, .. } = transfer.task() else {
                        panic!("{transfer:?} for STOU")
                    };
                    check_path(path);
                    assert!(self.rights(path).allow(Right::Write));
                    assert!(request.new && !request.overwrite && !request.append);
                    assert_eq!(request.offset, Some(0));
                }
                self.place = Place::Working(work);
            }
            Step::Reply(session, reply) => {
                assert!(self.answer(&reply) >= 400);
                self.place = Place::Between(session);
            }
            step @ (Step::Silent(_) | Step::Perform(_) | Step::Close(..)) => {
                panic!("{step:?} for STOU")
            }
        }
    }

    /// What waits from an earlier transfer is heard first, as there.
    fn hash(&mut self, work: Hash) {
        let mut hashing = work.begin();
        let mut lines = std::mem::take(&mut self.waiting);
        self.unanswered -= lines.len();
        while hashing.running.listens() {
            let Some(line) = lines.pop_front() else { break };
            self.heed(&mut hashing.running, &line, false);
        }
        self.unanswered += lines.len();
        self.waiting.extend(lines);
        self.place = Place::Hashing(hashing);
    }

    pub(super) fn hashed(&mut self, hashing: Hashing, outcome: Result<(), TransferError>) {
        let digest = outcome.map(|()| Digest {
            bytes: 5,
            sha256: [9; 32],
        });
        let Finished {
            session,
            reply,
            deferred,
        } = hashing.finished(digest);
        let code = self.answer(&reply);
        assert_eq!(code == 213, outcome.is_ok());
        assert!(code == 213 || code >= 400);
        let kept = self.waiting.iter().take(deferred.len());
        assert!(kept.map(|line| Command::parse(line)).eq(deferred));
        self.place = Place::Between(session);
    }

    /// `-` and a digit for an error at once, `+` for a file whose line is the rest, anything else
    /// for a directory with a line that tries to end the reply.
    fn status(&mut self, work: Status, outcome: &[u8]) {
        let (directory, line) = match outcome {
            [b'-', rest @ ..] => {
                let (session, reply) = work.refused(FileError::new(chosen(&FILE_ERRORS, rest)));
                assert!(self.answer(&reply) >= 400);
                self.place = Place::Between(session);
                return;
            }
            [b'+', rest @ ..] => (false, rest),
            rest => (true, rest),
        };
        let reply = work.begin(directory);
        let mut wire = Vec::new();
        reply.first("Status:", &mut wire);
        reply.lines(&[line, b"\r\n", line, b"\r\n"].concat(), &mut wire);
        let (session, last) = work.finished(&reply, Ok(()));
        assert_eq!(self.answer(&last), if directory { 212 } else { 213 });
        last.encode(&mut wire);
        check_wire(&wire, last.code());
        self.place = Place::Between(session);
    }

    fn logged_in(&mut self, step: Step, verdict: &Verdict, granted: Option<Granted>, welcome: u16) {
        match step {
            Step::Reply(session, reply) => {
                let code = self.answer(&reply);
                if granted.is_some() {
                    assert_eq!(code, welcome);
                    self.granted = granted;
                    self.failures = 0;
                } else {
                    assert_eq!(code, 530);
                    self.failures += u8::from(counts(verdict));
                    assert!(self.failures < 3);
                }
                self.place = Place::Between(session);
            }
            Step::Close(reply, hangup) => {
                assert_eq!((self.answer(&reply), hangup), (530, Hangup::LoginFailures));
                assert!(counts(verdict) && self.failures == 2);
            }
            step @ (Step::Silent(_) | Step::Perform(_)) => panic!("{step:?} after a verdict"),
        }
    }

    fn file_done(&mut self, work: FileWork, outcome: Result<FileAnswer, FileError>) {
        let examined = match work.task() {
            FileTask::Examine {
                path,
                purpose: Examine::RenameFrom,
            } => Some(path.clone()),
            FileTask::Examine { .. }
            | FileTask::ChangeDirectory(_)
            | FileTask::MakeDirectory(_)
            | FileTask::RemoveDirectory(_)
            | FileTask::Delete(_)
            | FileTask::SetModified { .. }
            | FileTask::Rename { .. } => None,
        };
        let (session, reply) = work.finished(outcome);
        let code = self.answer(&reply);
        assert!(outcome.is_ok() || code >= 400);
        assert_eq!(code == 350, examined.is_some() && code < 400);
        if code == 350 {
            self.rename_from = examined;
        }
        self.place = Place::Between(session);
    }

    fn start(&mut self, work: Transfer, outcome: Result<(), TransferError>) {
        match outcome {
            Ok(()) => {
                let (mut running, mark) = work.begin();
                assert_eq!(check_reply(&mark), 150);
                // What waits from an earlier transfer is heard before anything new.
                let mut lines = std::mem::take(&mut self.waiting);
                self.unanswered -= lines.len();
                while running.listens() {
                    let Some(line) = lines.pop_front() else { break };
                    self.hear(running, &line);
                    match std::mem::replace(&mut self.place, Place::Closed) {
                        Place::Moving(same) => running = same,
                        Place::Between(_)
                        | Place::Working(_)
                        | Place::Hashing(_)
                        | Place::Closed => {
                            unreachable!("hearing ends no transfer")
                        }
                    }
                }
                self.unanswered += lines.len();
                self.waiting.extend(lines);
                running.mark_sent();
                self.place = Place::Moving(running);
            }
            Err(error) => {
                let (session, reply) = work.refused(error);
                assert!(self.answer(&reply) >= 400);
                self.place = Place::Between(session);
            }
        }
    }

    pub(super) fn hear(&mut self, mut running: Running, line: &[u8]) {
        self.heed(&mut running, line, true);
        self.place = Place::Moving(running);
    }

    /// `answers` says whether NOOP and STAT may be answered at all.
    pub(super) fn heed(&mut self, running: &mut Running, line: &[u8], answers: bool) {
        if running.listens() {
            let input = Command::parse(line);
            let heard = running.hear(input.clone(), 5);
            let idle = self.waiting.is_empty();
            self.unanswered += 1;
            self.waiting.push_back(line.to_vec());
            match heard {
                Heard::Answer(reply) => {
                    assert!(answers && idle, "a reply out of order");
                    assert!(matches!(input, Ok(Command::Noop | Command::Stat(None))));
                    assert!(matches!(check_reply(&reply), 200 | 213));
                    self.waiting.pop_back();
                    self.unanswered -= 1;
                }
                Heard::Abort => assert_eq!(input, Ok(Command::Abor)),
                Heard::CloseAfter => {
                    assert_eq!(input, Ok(Command::Quit));
                    assert!(running.is_closing());
                }
                Heard::Defer => assert!(!matches!(input, Ok(Command::Abor | Command::Quit))),
            }
            assert!(self.waiting.len() <= 64, "what waits is bounded");
        }
    }

    pub(super) fn end(&mut self, running: Running, outcome: Result<(), TransferError>) {
        let Finished {
            session,
            reply,
            deferred,
        } = running.finished(outcome);
        let code = self.answer(&reply);
        assert_eq!(code == 226, outcome.is_ok());
        assert!(code == 226 || code >= 400);
        let kept = self.waiting.iter().take(deferred.len());
        assert!(kept.map(|line| Command::parse(line)).eq(deferred));
        self.place = Place::Between(session);
    }
}

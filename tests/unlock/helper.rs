//! Sessions with helper processes that do wrong: every one ends in an error, in time, and leaves no process behind. And
//! with one that answers by a script: what the user is asked for, and told.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::time::{Duration, Instant};

use passkeyfs::crypto::Secret;
use passkeyfs::unlock::authenticator::{GetAssertion, MakeCredential, UserVerification};
use passkeyfs::unlock::hid::child::HelperProgram;
use passkeyfs::unlock::hid::protocol::{DeviceInfo, Failure, HelperPin, Nonsense, Query, Reply, Request, Verification};
use passkeyfs::unlock::hid::select::choose;
use passkeyfs::unlock::hid::{AttachedKey, HidAuthenticator, SessionLimits};
use passkeyfs::unlock::{Authenticator, AuthenticatorError, ScriptedInteraction};
use tempfile::TempDir;

const LIMITS: SessionLimits = SessionLimits { answer: Duration::from_millis(700), touch: Duration::from_millis(300) };
/// Limits, and the time a helper is given to end.
const WAIT_MAX: Duration = Duration::from_secs(5);

fn key() -> AttachedKey {
    AttachedKey { path: "/nonexistent/hidraw9".into(), product: "K".to_owned() }
}

fn shell(script: &str) -> HelperProgram {
    HelperProgram { program: "/bin/sh".into(), arguments: vec!["-c".into(), script.into()] }
}

fn connect_to(script: &str) -> Result<HidAuthenticator, AuthenticatorError> {
    let start = Instant::now();
    let result = HidAuthenticator::connect(&key(), &shell(script), LIMITS);
    assert!(start.elapsed() < WAIT_MAX, "{script}: {:?}", start.elapsed());
    result
}

/// A helper that gives these replies, whatever it is asked.
struct Script {
    folder: TempDir,
}

impl Script {
    fn of(replies: &[Reply]) -> Self {
        let folder = TempDir::new().expect("a temporary folder");
        let frames: Vec<u8> = replies.iter().flat_map(|reply| reply.encode().expect("short").to_vec()).collect();
        std::fs::write(folder.path().join("replies"), frames).expect("written");
        Self { folder }
    }

    fn connect(&self) -> HidAuthenticator {
        let script = format!("cat {0}/replies; cat >{0}/requests", self.folder.path().display());
        HidAuthenticator::connect(&key(), &shell(&script), LIMITS).expect("a session")
    }
}

fn with_pin() -> DeviceInfo {
    DeviceInfo {
        hmac_secret: true,
        takes_pin: true,
        pin_set: true,
        credentials_in_list_max: 8,
        ..DeviceInfo::default()
    }
}

fn get(verify_user: bool) -> GetAssertion {
    GetAssertion {
        client_data_hash: [3; 32],
        relying_party: "example".to_owned(),
        allow: vec![vec![9; 32], vec![8; 32]],
        hmac_salt: [4; 32],
        verify_user,
    }
}

fn assertion() -> Reply {
    Reply::Assertion {
        credential_id: vec![8; 32],
        authenticator_data: vec![1; 40],
        signature: vec![2; 70],
        secret: Secret::new([7; 32]),
    }
}

#[test]
fn helpers_that_hang_flood_or_babble_are_errors_in_time() {
    let error = |script: &str| connect_to(script).err().expect("no session");
    for silent in ["exec sleep 100", "printf '\\020\\0\\0\\0\\003'; exec sleep 100", "trap '' TERM; sleep 100 & wait"] {
        assert!(matches!(error(silent), AuthenticatorError::Silent { .. }), "{silent}");
    }
    let babble = [
        "exec yes",
        "exec cat /dev/zero",
        "while :; do printf '\\001\\0\\0\\0\\001'; done",
        "printf '\\377\\377\\377\\377'; exec sleep 100",
        "printf '\\001\\0\\0\\0\\002'; exec sleep 100",
        "printf '\\001\\0\\0\\0\\377'; exec sleep 100",
        "printf '\\002\\0\\0\\0\\002\\002'; exec sleep 100",
        "printf '\\020\\0\\0\\0\\003'",
        "exit 3",
        "kill -SEGV $$",
    ];
    for script in babble {
        let error = error(script);
        assert!(matches!(error, AuthenticatorError::Protocol { .. }), "{script}: {error}");
    }
    // A device that hangs within the crate's own exchange: the helper's alarm ends it.
    assert!(matches!(error("kill -ALRM $$"), AuthenticatorError::Silent { .. }));
}

#[test]
fn a_helper_that_is_not_there_is_an_error() {
    let missing = HelperProgram { program: "/nonexistent/helper".into(), arguments: Vec::new() };
    let error = HidAuthenticator::connect(&key(), &missing, LIMITS).err().expect("no session");
    assert!(matches!(error, AuthenticatorError::Helper { .. }), "{error}");
}

#[test]
fn no_helper_outlives_its_session_and_none_gets_our_environment() {
    let folder = TempDir::new().expect("a temporary folder");
    let place = folder.path().display();
    let replies = Reply::Opened(with_pin()).encode().expect("short").to_vec();
    std::fs::write(folder.path().join("replies"), replies).expect("written");
    let start = format!("echo $$ >{place}/pid; cat /proc/$$/environ >{place}/environ; cat {place}/replies");
    for end in ["exec cat >/dev/null", "trap '' TERM INT HUP; while :; do sleep 100; done"] {
        let session = connect_to(&format!("{start}; {end}")).expect("a session");
        let pid = std::fs::read_to_string(folder.path().join("pid")).expect("its id");
        let process = Path::new("/proc").join(pid.trim());
        assert!(process.exists(), "it runs");
        assert_eq!(std::fs::read(folder.path().join("environ")).expect("read"), b"", "it has no environment");
        drop(session);
        assert!(!process.exists(), "{end}: it is gone");
    }
}

#[test]
fn one_pin_and_one_touch_unlock() {
    let script = Script::of(&[
        Reply::Opened(with_pin()),
        Reply::PinTries(8),
        Reply::Done,
        Reply::Found(Some(vec![8; 32])),
        Reply::TouchWanted,
        assertion(),
    ]);
    let mut session = script.connect();
    let description = session.describe();
    assert_eq!(description.name, "K (/nonexistent/hidraw9)");
    assert_eq!((description.user_verification, description.hardware), (UserVerification::Ready, true));
    let user = ScriptedInteraction::with_pins(&["2468"]);
    let answer = session.get_assertion(&get(true), &user).expect("answered");
    assert_eq!((answer.credential_id, *answer.hmac_secret.expose()), (vec![8; 32], [7; 32]));
    let asked = user.asked();
    assert_eq!((asked.pins.len(), asked.touches, asked.waiting), (1, 1, false));
    assert_eq!(asked.pins[0].tries_left, Some(8));
}

#[test]
fn who_holds_no_credential_says_so_without_a_touch() {
    let script = Script::of(&[Reply::Opened(with_pin()), Reply::Found(None)]);
    let user = ScriptedInteraction::silent();
    let error = script.connect().get_assertion(&get(false), &user).expect_err("none");
    assert!(matches!(error, AuthenticatorError::NoCredentials { .. }), "{error}");
    assert_eq!(user.asked().touches, 0);
}

#[test]
fn wrong_pins_are_counted_and_the_last_try_is_confirmed() {
    let wrong = || Reply::Failed(Failure::Status(0x31));
    let script = Script::of(&[
        Reply::Opened(with_pin()),
        Reply::PinTries(3),
        wrong(),
        Reply::PinTries(2),
        Reply::PinTries(1),
        wrong(),
        Reply::PinTries(0),
        Reply::PinTries(0),
    ]);
    let mut session = script.connect();
    let user = ScriptedInteraction::with_pins(&["0000", "1111", "2222"]);
    let mut failure = || session.find_credential(&get(true), &user).expect_err("a wrong PIN").to_string();
    assert_eq!(failure(), "wrong PIN for K (/nonexistent/hidraw9); tries left: 2");
    assert_eq!(failure(), "the PIN of K (/nonexistent/hidraw9) is blocked");
    assert_eq!(failure(), "the PIN of K (/nonexistent/hidraw9) is blocked");
    let asked = user.asked();
    assert_eq!((asked.pins.len(), asked.last_tries), (2, 1));
    assert!(!asked.pins[0].wrong_before && asked.pins[1].wrong_before);
}

#[test]
fn a_key_gets_the_pin_in_normal_form() {
    let script = Script::of(&[Reply::Opened(with_pin()), Reply::PinTries(8), Reply::Done, Reply::Found(None)]);
    let mut session = script.connect();
    let user = ScriptedInteraction::with_pins(&["a\u{308}bcd"]);
    session.find_credential(&get(true), &user).expect("asked");
    drop(session);
    let requests = std::fs::read(script.folder.path().join("requests")).expect("the requests");
    let holds = |pin: &str| requests.windows(pin.len()).any(|bytes| bytes == pin.as_bytes());
    assert!(holds("\u{e4}bcd") && !holds("\u{308}bcd"), "{requests:?}");
}

#[test]
fn a_pin_that_no_key_takes_never_leaves_this_process() {
    let script = Script::of(&[Reply::Opened(with_pin()), Reply::PinTries(8), Reply::PinTries(8)]);
    let mut session = script.connect();
    let long = "x".repeat(64);
    let user = ScriptedInteraction::with_pins(&["123", &long]);
    for _ in 0..2 {
        let error = session.find_credential(&get(true), &user).expect_err("unusable");
        assert!(matches!(error, AuthenticatorError::PinUnusable), "{error}");
    }
    drop(session);
    let requests = std::fs::read(script.folder.path().join("requests")).expect("the requests");
    let tries = Request::PinTries.encode().expect("short");
    let open = Request::Open { path: "/nonexistent/hidraw9".to_owned() }.encode().expect("short");
    assert_eq!(requests, [&open[..], &tries, &tries].concat());
}

#[test]
fn every_failure_of_a_key_has_words_of_its_own() {
    let cases = [
        (Failure::Status(0x27), "K (/nonexistent/hidraw9) was told to refuse"),
        (Failure::Status(0x2f), "K (/nonexistent/hidraw9) was not touched in time"),
        (Failure::Status(0x2d), "K (/nonexistent/hidraw9) was not touched in time"),
        (Failure::Status(0x28), "K (/nonexistent/hidraw9) has no room for another credential"),
        (Failure::Status(0x3f), "K (/nonexistent/hidraw9) did not recognise the finger"),
        (Failure::Status(0x7f), "K (/nonexistent/hidraw9) refused (CTAP status 0x7f)"),
        (Failure::TouchTimedOut, "K (/nonexistent/hidraw9) was not touched in time"),
        (Failure::Removed, "K (/nonexistent/hidraw9) was removed"),
        (Failure::NoPermission, "no permission to use K (/nonexistent/hidraw9)"),
        (Failure::Silent, "K (/nonexistent/hidraw9) does not answer"),
        (Failure::Busy, "K (/nonexistent/hidraw9) is busy: another program talks to it"),
        (
            Failure::Nonsense(Nonsense::NotUnderstood),
            "K (/nonexistent/hidraw9) gave an answer that makes no sense: it cannot be read",
        ),
    ];
    for (failure, words) in cases {
        let script = Script::of(&[Reply::Opened(with_pin()), Reply::Found(Some(vec![8; 32])), Reply::Failed(failure)]);
        let error = script.connect().get_assertion(&get(false), &ScriptedInteraction::silent()).expect_err("failed");
        assert_eq!(error.to_string(), words);
    }
}

#[test]
fn a_pin_that_cannot_serve_is_named_as_the_cause() {
    let failure = |info: DeviceInfo, replies: Vec<Reply>| {
        let script = Script::of(&std::iter::once(Reply::Opened(info)).chain(replies).collect::<Vec<_>>());
        let user = ScriptedInteraction::with_pins(&["2468"]);
        let error = script.connect().find_credential(&get(true), &user).expect_err("no PIN").to_string();
        (error, user.asked().pins.len())
    };
    let name = "K (/nonexistent/hidraw9)";
    let without = DeviceInfo { pin_set: false, ..with_pin() };
    assert_eq!(failure(without, vec![]), (format!("{name} has no PIN set"), 0));
    let stale = DeviceInfo { pin_change_wanted: true, ..with_pin() };
    assert_eq!(failure(stale, vec![]), (format!("{name} wants its PIN to be changed first"), 0));
    assert_eq!(failure(with_pin(), vec![Reply::PinTries(0)]), (format!("the PIN of {name} is blocked"), 0));
    let paused = vec![Reply::PinTries(5), Reply::Failed(Failure::Status(0x34)), Reply::PinTries(5)];
    let words = format!("{name} takes no more PINs until it is pulled out and put in again; tries left: 5");
    assert_eq!(failure(with_pin(), paused), (words, 1));
}

#[test]
fn a_finger_that_is_not_recognised_falls_back_to_the_pin() {
    let info = DeviceInfo { takes_finger: true, finger_set: true, ..with_pin() };
    let script = Script::of(&[
        Reply::Opened(info),
        Reply::TouchWanted,
        Reply::Failed(Failure::Status(0x3f)),
        Reply::PinTries(8),
        Reply::Done,
        Reply::Found(Some(vec![8; 32])),
        Reply::TouchWanted,
        assertion(),
    ]);
    let user = ScriptedInteraction::with_pins(&["2468"]);
    script.connect().get_assertion(&get(true), &user).expect("answered");
    assert_eq!((user.asked().pins.len(), user.asked().touches), (1, 2));
}

#[test]
fn a_key_that_is_enrolled_already_is_recognised_without_a_touch() {
    let script = Script::of(&[
        Reply::Opened(with_pin()),
        Reply::PinTries(8),
        Reply::Done,
        Reply::Found(None),
        Reply::Found(Some(vec![5; 32])),
    ]);
    let mut session = script.connect();
    let request = MakeCredential {
        client_data_hash: [1; 32],
        relying_party: "example".to_owned(),
        user_id: vec![2; 32],
        user_name: "somebody".to_owned(),
        discoverable: false,
        verify_user: true,
        // More than the device takes in one list.
        exclude: (0..10).map(|id| vec![id; 32]).collect(),
    };
    let user = ScriptedInteraction::with_pins(&["2468"]);
    let error = session.make_credential(&request, &user).expect_err("enrolled");
    assert!(matches!(error, AuthenticatorError::AlreadyEnrolled { .. }), "{error}");
    assert_eq!(user.asked().touches, 0);
}

#[test]
fn a_touch_announced_without_end_is_a_violation() {
    let replies = (0..100).map(|_| Reply::TouchWanted);
    let script = Script::of(&std::iter::once(Reply::Opened(with_pin())).chain(replies).collect::<Vec<_>>());
    let user = ScriptedInteraction::silent();
    let error = script.connect().find_credential(&get(false), &user).expect_err("no answer");
    assert!(matches!(error, AuthenticatorError::Protocol { .. }), "{error}");
    assert_eq!(user.asked().touches, 1);
}

#[test]
fn of_several_keys_the_one_that_is_touched_is_chosen_and_the_others_are_let_go() {
    let other = Script::of(&[Reply::Opened(with_pin()), Reply::TouchWanted]);
    let denied = Script::of(&[Reply::Opened(with_pin()), Reply::Failed(Failure::Status(0x27))]);
    let touched = DeviceInfo { credentials_in_list_max: 3, ..with_pin() };
    let touched = Script::of(&[Reply::Opened(touched), Reply::TouchWanted, Reply::Done]);
    let user = ScriptedInteraction::silent();
    let chosen = choose(vec![other.connect(), denied.connect(), touched.connect()], &user).expect("one is touched");
    assert_eq!(chosen.describe().credentials_in_list_max, 3);
    assert_eq!((user.asked().touches, user.asked().waiting), (1, false), "one announcement for all");
    let requests = std::fs::read(other.folder.path().join("requests")).expect("the requests");
    let select = Request::Select { touch: LIMITS.touch }.encode().expect("short");
    assert!(requests.ends_with(&select), "and nothing after it but the end");

    let start = Instant::now();
    let error = choose(vec![other.connect(), denied.connect()], &user).err().expect("none is touched");
    assert!(matches!(error, AuthenticatorError::TouchDenied { .. }), "{error}");
    assert!(start.elapsed() < WAIT_MAX);
    let error = choose(vec![other.connect(), other.connect()], &user).err().expect("none is touched");
    assert_eq!(error.to_string(), "the security key to use was not touched in time");
}

#[test]
fn a_session_that_broke_off_stays_so() {
    let script = Script::of(&[Reply::Opened(with_pin()), Reply::Done]);
    let mut session = script.connect();
    for _ in 0..2 {
        let error = session.find_credential(&get(false), &ScriptedInteraction::silent()).expect_err("broken");
        assert!(matches!(error, AuthenticatorError::Protocol { .. }), "{error}");
    }
}

#[test]
fn requests_and_replies_read_back_and_nothing_else_does() {
    let query =
        || Query { client_data_hash: [1; 32], relying_party: "example".to_owned(), allow: vec![vec![1], vec![]] };
    let requests = [
        Request::PinTries,
        Request::Select { touch: Duration::from_secs(30) },
        Request::Find { query: query(), verification: Verification::Pin, touch: LIMITS.touch },
        Request::Assert { query: query(), salt: [3; 32], verification: Verification::BuiltIn, touch: LIMITS.touch },
    ];
    for request in &requests {
        let frame = request.encode().expect("short");
        let (length, body) = frame.split_at(4);
        assert_eq!(u32::from_le_bytes(length.try_into().unwrap()) as usize, body.len());
        assert_eq!(format!("{:?}", Request::decode(body).expect("a request")), format!("{request:?}"));
        for end in 0..body.len() {
            assert!(Request::decode(&body[..end]).is_err(), "{request:?} {end}");
        }
        assert!(Request::decode(&[body, &[0]].concat()).is_err());
    }
    for reply in [Reply::Opened(with_pin()), assertion(), Reply::Found(None), Reply::Failed(Failure::Status(1))] {
        let frame = reply.encode().expect("short");
        assert_eq!(format!("{:?}", Reply::decode(&frame[4..]).expect("a reply")), format!("{reply:?}"));
        for end in 0..frame.len() - 4 {
            assert!(Reply::decode(&frame[4..4 + end]).is_err(), "{reply:?} {end}");
        }
    }
    let long = Request::Open { path: "x".repeat(20_000) };
    assert!(long.encode().is_none(), "too long for a frame");
    let secret = Request::VerifyPin { pin: HelperPin("13579-pin".to_owned().into()) };
    assert!(!format!("{secret:?}").contains("13579"), "{secret:?}");
}

#[test]
fn the_real_helper_says_what_is_wrong_with_a_device_and_ends_with_its_session() {
    let program =
        HelperProgram { program: env!("CARGO_BIN_EXE_passkeyfs").into(), arguments: vec!["hid-helper".into()] };
    let limits = SessionLimits { answer: Duration::from_secs(20), touch: LIMITS.touch };
    let error = |path: &str| {
        let key = AttachedKey { path: path.into(), product: "K".to_owned() };
        HidAuthenticator::connect(&key, &program, limits).err().expect("no session").to_string()
    };
    assert_eq!(error("/nonexistent/hidraw9"), "K (/nonexistent/hidraw9) was removed");
    assert_eq!(error("/dev/null"), "K (/dev/null) gave an answer that makes no sense: it cannot be read");
    // Garbage on its input, or none: it ends by itself, and prints nothing.
    for input in [&b""[..], b"\x01\0\0\0\xff", b"\xff\xff\xff\xff", b"\x01\0\0"] {
        let mut command = std::process::Command::new(&program.program);
        command.arg0("passkeyfs").arg("hid-helper").stdin(std::process::Stdio::piped());
        command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
        let mut child = command.spawn().expect("started");
        std::io::Write::write_all(&mut child.stdin.take().expect("a pipe"), input).expect("written");
        let output = child.wait_with_output().expect("ended");
        assert_eq!((output.stdout, output.status.code().is_some()), (vec![], true), "{input:?}");
    }
}

//! A virtual FIDO2 security key, attached until the process ends (SIGTERM pulls it out). For tests only.
//!
//! What speaks CTAP2 is `fido-authenticator`, the code of a real security key, on Trussed's software platform. Around it:
//!
//! ```text
//! framing.rs  packets of the host → messages; answers INIT, PING, CANCEL itself     (a thread)
//! serve.rs    messages → the authenticator → replies; keepalives meanwhile          (the main thread, and one for keepalives)
//! hostile.rs  what a broken or malicious key does instead of replying
//! finger.rs   the person: touches, refuses, is late, never comes, pulls the key out
//! wire.rs     messages → packets of the key; uhid.rs: the kernel's side, which makes it a real /dev/hidrawN
//! script.rs   the folder through which a test drives the key and reads what it saw
//! ```

mod finger;
mod framing;
mod hostile;
mod script;
mod serve;
mod uhid;
mod wire;

use std::path::PathBuf;

use rand_core::OsRng;
use trussed::backend::BackendId;
use trussed::pipe::TrussedChannel;
use trussed::platform::Platform;
use trussed::virt::{Client, Runner, StorageConfig, Store, StoreConfig, UserInterface};
use trussed_staging::virt::{BackendIds, Dispatcher};

use script::Script;

const USAGE: &str = "\
virtual-key FOLDER [--name NAME] [--no-hmac-secret] [--touch-seconds N] [--keepalive-ms N]

Attaches a virtual FIDO2 key until it is killed. FOLDER is its own (one process at a time) and holds
  memory   what the key remembers; made if missing
  touch    what the person does, read whenever a touch is wanted: touch (default), deny, never, after MS, unplug
  hostile  how the key misbehaves, read at each message: nothing (default), or MODE STAGE (see hostile.rs)
  log      what the key saw, a line each, appended to";

/// What the command line said.
pub struct Options {
    /// The product name that the host sees.
    pub name: String,
    /// Whether the key knows the extension that passkeyfs needs.
    pub has_hmac_secret: bool,
    /// How long the key itself waits for a touch.
    pub touch_ms: u32,
    /// The pause between two keepalives while it works or waits.
    pub keepalive_ms: u64,
}

fn options() -> Result<(PathBuf, Options), String> {
    let mut folder = None;
    let mut options =
        Options { name: "virtual-key".into(), has_hmac_secret: true, touch_ms: 30_000, keepalive_ms: 100 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut value = || words.next().ok_or(USAGE);
        match word.as_str() {
            "--name" => options.name = value()?,
            "--no-hmac-secret" => options.has_hmac_secret = false,
            "--touch-seconds" => options.touch_ms = 1000 * value()?.parse::<u32>().map_err(|_| USAGE)?,
            "--keepalive-ms" => options.keepalive_ms = value()?.parse().map_err(|_| USAGE)?,
            _ if folder.is_none() && !word.starts_with('-') => folder = Some(PathBuf::from(word)),
            _ => return Err(USAGE.into()),
        }
    }
    Ok((folder.ok_or(USAGE)?, options))
}

/// Trussed's software platform with real random numbers (its own one has a fixed seed, so that all keys would be one).
struct SoftPlatform<'a> {
    rng: OsRng,
    store: Store<'a>,
    ui: UserInterface,
}

impl<'a> Platform for SoftPlatform<'a> {
    type R = OsRng;
    type S = Store<'a>;
    type UI = UserInterface;

    fn rng(&mut self) -> &mut OsRng {
        &mut self.rng
    }
    fn store(&self) -> Store<'a> {
        self.store
    }
    fn user_interface(&mut self) -> &mut UserInterface {
        &mut self.ui
    }
}

fn main() {
    let (folder, options) = options().unwrap_or_else(|text| {
        eprintln!("{text}");
        std::process::exit(2);
    });
    let script = Script::open(folder).unwrap_or_else(|why| {
        eprintln!("virtual-key: {why}");
        std::process::exit(1);
    });
    // Both live as long as the process: threads and the authenticator's presence check borrow them.
    let (script, options): (&'static Script, &'static Options) =
        (Box::leak(Box::new(script)), Box::leak(Box::new(options)));
    let mut store = StoreConfig {
        internal: StorageConfig::filesystem(script.memory()),
        external: StorageConfig::ram(),
        volatile: StorageConfig::ram(),
    };
    store.with_store(|store| {
        let platform = SoftPlatform { rng: OsRng, store, ui: UserInterface::new() };
        let channel = TrussedChannel::new();
        let (requester, responder) = channel.split().expect("a fresh channel");
        static BACKENDS: [BackendId<BackendIds>; 2] = [BackendId::Custom(BackendIds::StagingBackend), BackendId::Core];
        let mut runner = Runner::new();
        runner.add_endpoint(responder, "fido", &BACKENDS);
        let client = Client::new(requester, runner.syscall(), None);
        runner.run(platform, Dispatcher::default(), || serve::serve(client, script, options));
    });
}

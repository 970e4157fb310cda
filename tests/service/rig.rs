//! A vault with a key in a file and a PIN, and the program on it.

use std::fs;
use std::os::unix::net::{UnixDatagram, UnixListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use passkeyfs::unlock::SoftwareAuthenticator;

pub const PIN: &str = "correct-horse-battery-47";
/// Longer than anything here takes, on a machine that has much else to do.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A home with a vault.
pub struct Rig {
    pub folder: tempfile::TempDir,
}

impl Rig {
    /// A vault that opens with `PIN`. Its paths have blanks.
    pub fn new() -> Self {
        let rig = Self { folder: tempfile::Builder::new().prefix("a home ").tempdir().expect("a temporary folder") };
        SoftwareAuthenticator::open_or_create(&rig.key()).expect("made").set_pin(PIN).expect("set");
        fs::create_dir(rig.path("credentials")).expect("made");
        rig.store_pin(PIN);
        fs::create_dir(rig.path("mount")).expect("made");
        let made = rig.command().arg("init").arg(rig.vault()).arg("--no-recovery").output().expect("it runs");
        assert!(made.status.success(), "{}", words(&made));
        rig
    }

    /// As [`new`](Self::new), where something can be mounted.
    pub fn where_fuse_works() -> Option<Self> {
        if fs::OpenOptions::new().read(true).write(true).open("/dev/fuse").is_err() {
            eprintln!("not tested: /dev/fuse cannot be used here");
            return None;
        }
        Some(Self::new())
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn key(&self) -> PathBuf {
        self.path("key.json")
    }

    pub fn vault(&self) -> PathBuf {
        self.path("the vault")
    }

    pub fn mount(&self) -> PathBuf {
        self.path("mount")
    }

    pub fn store_pin(&self, pin: &str) {
        fs::write(self.path("credentials/passkeyfs.pin"), format!("{pin}\n")).expect("written");
    }

    /// Changes a field of the authenticator's file.
    pub fn set_key_field(&self, name: &str, value: serde_json::Value) {
        let mut state: serde_json::Value = serde_json::from_slice(&fs::read(self.key()).expect("read")).expect("JSON");
        state[name] = value;
        fs::write(self.key(), serde_json::to_vec(&state).expect("JSON")).expect("written");
    }

    pub fn pin_tries_left(&self) -> u64 {
        let state: serde_json::Value = serde_json::from_slice(&fs::read(self.key()).expect("read")).expect("JSON");
        state["pin_tries_left"].as_u64().expect("a number")
    }

    /// The program in an environment of its own, with the PIN as a credential, and without terminal, bus or desktop.
    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_passkeyfs"));
        self.put_in_order(&mut command);
        command.env("CREDENTIALS_DIRECTORY", self.path("credentials"));
        command
    }

    /// As [`command`](Self::command), without credential and by way of another program, which gets the arguments first.
    pub fn command_under(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).arg(env!("CARGO_BIN_EXE_passkeyfs"));
        self.put_in_order(&mut command);
        command
    }

    fn put_in_order(&self, command: &mut Command) {
        command.env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("HOME", self.folder.path());
        command.env("PASSKEYFS_AUTHENTICATOR", format!("software:{}", self.key().display()));
    }

    pub fn mount_in_front(&self, options: &str) -> Command {
        let mut command = self.command();
        command.args(["mount", "-f"]).arg(self.vault()).arg(self.mount());
        if !options.is_empty() {
            command.args(["-o", options]);
        }
        command
    }

    pub fn is_mounted(&self) -> bool {
        let name = self.folder.path().file_name().and_then(|name| name.to_str()).expect("text").replace(' ', "\\040");
        fs::read_to_string("/proc/self/mounts").expect("the mount table").contains(&format!("{name}/mount"))
    }
}

/// A program that runs, and is killed at the end should it still.
pub struct Running {
    pub child: Child,
    mount: PathBuf,
}

impl Running {
    pub fn start(rig: &Rig, command: &mut Command) -> Self {
        Self { child: command.spawn().expect("it starts"), mount: rig.mount() }
    }

    /// Starts a mount and waits until it is there.
    pub fn mounted(rig: &Rig, command: &mut Command) -> Self {
        let mut running = Self::start(rig, command);
        let gone = wait_for(|| rig.is_mounted() || running.child.try_wait().expect("asked").is_some());
        assert!(gone && rig.is_mounted(), "{}", running.finish().1);
        running
    }

    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(self.child.id() as i32), signal).expect("sent");
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("asked").is_none()
    }

    /// How it ended, and what it said.
    pub fn finish(&mut self) -> (ExitStatus, String) {
        let ended = wait_for(|| self.child.try_wait().expect("asked").is_some());
        if !ended {
            let _ = self.child.kill();
        }
        let mut said = String::new();
        for pipe in [
            self.child.stdout.take().map(|pipe| Box::new(pipe) as Box<dyn std::io::Read>),
            self.child.stderr.take().map(|pipe| Box::new(pipe) as Box<dyn std::io::Read>),
        ] {
            pipe.into_iter().for_each(|mut pipe| drop(pipe.read_to_string(&mut said)));
        }
        assert!(ended, "it does not end; it said: {said}");
        (self.child.wait().expect("reaped"), said)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // A mount whose daemon was killed; elsewhere this fails, and that is as well.
        let _ = Command::new("umount").arg("-l").arg(&self.mount).stderr(Stdio::null()).status();
    }
}

/// A message bus that takes connections and says nothing.
pub struct SilentBus {
    pub address: String,
    _folder: tempfile::TempDir,
    _socket: UnixListener,
}

impl SilentBus {
    pub fn listen() -> Self {
        // Not in a home with blanks: those an address would have to escape.
        let folder = tempfile::tempdir().expect("a temporary folder");
        let path = folder.path().join("bus");
        let _socket = UnixListener::bind(&path).expect("bound");
        Self { address: format!("unix:path={}", path.display()), _folder: folder, _socket }
    }
}

/// True when it became true in time.
pub fn wait_for(mut condition: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if condition() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

pub fn words(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The service manager's ear.
pub struct ServiceManager {
    socket: UnixDatagram,
    pub path: PathBuf,
}

impl ServiceManager {
    pub fn listen(folder: &Path) -> Self {
        let path = folder.join("notify");
        let socket = UnixDatagram::bind(&path).expect("bound");
        socket.set_nonblocking(true).expect("set");
        Self { socket, path }
    }

    /// The lines that were sent so far and not read yet.
    pub fn told(&self) -> Vec<String> {
        let mut lines = Vec::new();
        let mut message = [0; 4096];
        while let Ok(length) = self.socket.recv(&mut message) {
            lines.extend(String::from_utf8_lossy(&message[..length]).lines().map(str::to_owned));
        }
        lines
    }
}

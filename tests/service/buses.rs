//! A message bus of our own with a stand-in for the desktop's notifications, and one for systemd-logind.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::json;
use zbus::blocking::{Connection, connection};
use zbus::zvariant::{OwnedFd, OwnedValue};

use super::rig::{Rig, Running, SilentBus, wait_for, words};

/// A bus, gone with the test.
struct Bus {
    daemon: Child,
    address: String,
}

impl Bus {
    /// `None` where there is no `dbus-daemon`.
    fn start() -> Option<Self> {
        let mut command = Command::new("dbus-daemon");
        command.args(["--session", "--nofork", "--nopidfile", "--print-address"]);
        let Ok(mut daemon) = command.stdout(Stdio::piped()).spawn() else {
            eprintln!("not tested: there is no dbus-daemon here");
            return None;
        };
        let mut address = String::new();
        BufReader::new(daemon.stdout.take().expect("a pipe")).read_line(&mut address).expect("an address");
        Some(Self { daemon, address: address.trim().to_owned() })
    }

    fn serve<I: zbus::object_server::Interface>(
        &self,
        name: &'static str,
        path: &'static str,
        object: I,
    ) -> Connection {
        let builder = connection::Builder::address(self.address.as_str()).expect("an address");
        let builder = builder.name(name).expect("a name").serve_at(path, object).expect("an object");
        builder.build().expect("connected")
    }
}

impl Drop for Bus {
    fn drop(&mut self) {
        let _ = self.daemon.kill();
        let _ = self.daemon.wait();
    }
}

#[derive(Debug, Clone, Default)]
struct Desktop {
    shown: Arc<Mutex<Vec<String>>>,
    taken_back: Arc<Mutex<Vec<u32>>>,
}

#[zbus::interface(name = "org.freedesktop.Notifications")]
impl Desktop {
    #[allow(clippy::too_many_arguments)]
    fn notify(
        &self,
        _program: &str,
        _replaces: u32,
        _icon: &str,
        summary: &str,
        body: &str,
        _actions: Vec<String>,
        _hints: HashMap<String, OwnedValue>,
        _milliseconds: i32,
    ) -> u32 {
        let mut shown = self.shown.lock().expect("unhurt");
        shown.push(format!("{summary}: {body}"));
        40 + shown.len() as u32
    }

    fn close_notification(&self, id: u32) {
        self.taken_back.lock().expect("unhurt").push(id);
    }
}

#[test]
fn a_touch_is_shown_on_the_desktop_and_taken_back() {
    let (rig, Some(bus)) = (Rig::new(), Bus::start()) else { return };
    rig.set_key_field("touch_delay_ms", json!(3000));
    let desktop = Desktop::default();
    let _server = bus.serve("org.freedesktop.Notifications", "/org/freedesktop/Notifications", desktop.clone());
    let mut command = rig.command();
    command.args(["key", "test"]).arg(rig.vault()).env("DBUS_SESSION_BUS_ADDRESS", &bus.address);
    let done = command.output().expect("it runs");
    assert_eq!(done.status.code(), Some(0), "{}", words(&done));
    let shown = desktop.shown.lock().expect("unhurt").clone();
    assert_eq!(shown.len(), 1, "{shown:?}");
    assert!(shown[0].starts_with("Touch your security key: passkeyfs waits for a touch of the software"), "{shown:?}");
    assert_eq!(*desktop.taken_back.lock().expect("unhurt"), [41]);
}

#[test]
fn a_bus_that_does_not_answer_and_one_without_a_desktop_hold_up_nobody() {
    let rig = Rig::new();
    let silent = SilentBus::listen();
    let mut addresses = vec![silent.address.clone(), "unix:path=/nonexistent/bus".to_owned()];
    let bus = Bus::start();
    addresses.extend(bus.as_ref().map(|bus| bus.address.clone()));
    for address in addresses {
        let start = Instant::now();
        let mut command = rig.command();
        command.args(["key", "test"]).arg(rig.vault()).env("DBUS_SESSION_BUS_ADDRESS", &address);
        let done = command.output().expect("it runs");
        assert_eq!(done.status.code(), Some(0), "{address}: {}", words(&done));
        assert!(!words(&done).contains("notification"), "{}", words(&done));
        assert!(start.elapsed() < Duration::from_secs(10), "{address}: {:?}", start.elapsed());
    }
}

#[test]
fn the_desktop_is_told_once_when_changes_do_not_reach_the_vault_folder() {
    let (Some(rig), Some(bus)) = (Rig::where_fuse_works(), Bus::start()) else { return };
    let desktop = Desktop::default();
    let _server = bus.serve("org.freedesktop.Notifications", "/org/freedesktop/Notifications", desktop.clone());
    let mut command = rig.mount_in_front("publish=1,notify=1");
    let mut service = Running::mounted(&rig, command.env("DBUS_SESSION_BUS_ADDRESS", &bus.address));
    std::fs::write(rig.mount().join("file"), "written before the folder was moved").expect("written");
    std::fs::rename(rig.vault(), rig.path("elsewhere")).expect("moved");
    let shown = || {
        let shown = desktop.shown.lock().expect("unhurt").clone();
        shown.into_iter().filter(|text| text.starts_with("passkeyfs: ")).collect::<Vec<_>>()
    };
    assert!(wait_for(|| !shown().is_empty()));
    std::thread::sleep(Duration::from_secs(2));
    let text = shown().join("\n");
    assert_eq!(shown().len(), 1, "{text}");
    assert!(text.starts_with("passkeyfs: Changes do not reach the vault folder: "), "{text}");
    assert!(text.contains("is not there any more") && text.contains("passkeyfs status '"), "{text}");
    std::fs::rename(rig.path("elsewhere"), rig.vault()).expect("moved back");
    service.signal(Signal::SIGTERM);
    let (status, said) = service.finish();
    assert_eq!(status.code(), Some(0), "{said}");
}

#[derive(Debug, Clone, Default)]
struct Logind {
    /// The ends of pipes whose other ends the inhibitors are.
    held: Arc<Mutex<Vec<std::fs::File>>>,
}

#[zbus::interface(name = "org.freedesktop.login1.Manager")]
impl Logind {
    fn inhibit(&self, what: &str, who: &str, _why: &str, mode: &str) -> OwnedFd {
        assert_eq!((what, who, mode), ("sleep", "passkeyfs", "delay"));
        let (reader, writer) = nix::unistd::pipe().expect("a pipe");
        self.held.lock().expect("unhurt").push(reader.into());
        OwnedFd::from(writer)
    }

    #[zbus(property, name = "InhibitDelayMaxUSec")]
    fn inhibit_delay(&self) -> u64 {
        20_000_000
    }
}

#[test]
fn sleep_waits_until_the_vault_is_locked() {
    let (Some(rig), Some(bus)) = (Rig::where_fuse_works(), Bus::start()) else { return };
    let (logind, path) = (Logind::default(), "/org/freedesktop/login1");
    let server = bus.serve("org.freedesktop.login1", path, logind.clone());
    let mut command = rig.mount_in_front("lock-on-suspend,publish=3600");
    let mut service = Running::mounted(&rig, command.env("DBUS_SYSTEM_BUS_ADDRESS", &bus.address));
    std::fs::write(rig.mount().join("file"), "written before sleep").expect("written");
    // Of a file that stays open nothing is lost but the use of it.
    let open = std::fs::File::open(rig.mount().join("file")).expect("open");
    let tell = |goes: bool| {
        let interface = "org.freedesktop.login1.Manager";
        server.emit_signal(None::<&str>, path, interface, "PrepareForSleep", &(goes,)).expect("sent");
    };
    tell(false);
    std::thread::sleep(Duration::from_millis(500));
    assert!(service.is_running(), "to wake up is no reason to lock");
    let mut inhibitor = logind.held.lock().expect("unhurt").pop().expect("an inhibitor");
    tell(true);
    // The inhibitor is let go by the end of the process.
    assert_eq!(inhibitor.read(&mut [0]).expect("the end"), 0);
    let (status, said) = service.finish();
    assert_eq!(status.code(), Some(0), "{said}");
    assert!(said.contains("the machine goes to sleep: locking"), "{said}");
    assert!(!rig.is_mounted());
    drop(open);
    let mut again = Running::mounted(&rig, &mut rig.mount_in_front(""));
    assert_eq!(std::fs::read_to_string(rig.mount().join("file")).expect("read"), "written before sleep");
    again.signal(Signal::SIGTERM);
    assert!(wait_for(|| !again.is_running()));
}

#[test]
fn without_logind_a_lock_on_suspend_is_refused_before_the_pin_is_asked_for() {
    let rig = Rig::new();
    let before = rig.pin_tries_left();
    rig.store_pin("wrong-pin");
    let mut command = rig.mount_in_front("lock-on-suspend");
    let refused = command.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nonexistent/bus").output().expect("it runs");
    assert_eq!(refused.status.code(), Some(1), "{}", words(&refused));
    assert!(words(&refused).contains("lock-on-suspend: systemd-logind cannot be asked"), "{}", words(&refused));
    assert_eq!(rig.pin_tries_left(), before);
}

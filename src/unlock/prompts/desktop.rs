//! Desktop notifications (org.freedesktop.Notifications): of a waiting touch, taken back when the touch is done, and of
//! trouble with a mounted vault, which stays until its user has seen it.
//!
//! Relies on `zbus`. Where there is no session bus nothing happens. All talk is on a thread of its own: a bus that does not
//! answer holds up nobody for longer than [`PATIENCE`], once.

use std::collections::HashMap;
use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use parking_lot::Mutex;
use zbus::blocking::{Connection, connection};
use zbus::zvariant::Value;

use super::interaction::{StatusNotifier, plain};
use super::signals::spawn_shielded;

const SERVICE: &str = "org.freedesktop.Notifications";
const OBJECT: &str = "/org/freedesktop/Notifications";
/// How long one call may take.
const CALL_TIME_LIMIT: Duration = Duration::from_secs(5);
/// How long the end of a touch waits for the notification to be taken back, before the process may end.
const PATIENCE: Duration = Duration::from_millis(500);
/// When a notification goes by itself, should this process not live to take it back: keys wait no longer.
const SHOWN_MILLISECONDS: i32 = 60_000;
/// Of a notification that does not go by itself.
const SHOWN_UNTIL_SEEN: i32 = 0;
/// `urgency`: critical. It is shown over windows that fill the screen.
const CRITICAL: u8 = 2;

enum Order {
    Show(String),
    /// Answered when it is done.
    TakeBack(Sender<()>),
}

/// Notifications on this user's desktop.
pub(super) struct DesktopNotification {
    /// To the thread that talks with the bus, once there was something to say.
    thread: Mutex<Option<Sender<Order>>>,
}

impl DesktopNotification {
    /// `None` where this process can have no session bus.
    pub(super) fn where_there_is_a_bus() -> Option<Self> {
        is_there_a_bus().then(|| Self { thread: Mutex::new(None) })
    }
}

fn is_there_a_bus() -> bool {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let usual = set("XDG_RUNTIME_DIR").is_some_and(|folder| Path::new(&folder).join("bus").exists());
    set("DBUS_SESSION_BUS_ADDRESS").is_some() || usual
}

/// Shows a notification that stays until the user has seen it; nothing where there is no desktop. May take seconds.
pub fn show_on_desktop(summary: &str, body: &str) {
    if !is_there_a_bus() {
        return;
    }
    let shown = connect().and_then(|bus| {
        let hints = HashMap::from([("urgency", Value::from(CRITICAL))]);
        notify(&bus, "dialog-warning", summary, &plain(body), hints, SHOWN_UNTIL_SEEN)
    });
    if let Err(error) = shown {
        log::debug!("no desktop notification: {error}");
    }
}

fn connect() -> zbus::Result<Connection> {
    connection::Builder::session()?.method_timeout(CALL_TIME_LIMIT).build()
}

impl StatusNotifier for DesktopNotification {
    fn touch_wanted(&self, authenticator: &str) {
        let mut thread = self.thread.lock();
        let orders = match thread.take() {
            Some(orders) => orders,
            None => {
                let (orders, received) = channel();
                // A question may follow this touch: no signal is to end the process by way of this thread meanwhile.
                if let Err(error) = spawn_shielded("notification", move || serve(&received)) {
                    return log::info!("no desktop notification: {error}");
                }
                orders
            }
        };
        if orders.send(Order::Show(plain(authenticator))).is_ok() {
            *thread = Some(orders);
        }
    }

    fn touch_done(&self) {
        let mut thread = self.thread.lock();
        let Some(orders) = thread.take() else { return };
        let (done, waiting) = channel();
        let taken_back = orders.send(Order::TakeBack(done)).is_ok() && waiting.recv_timeout(PATIENCE).is_ok();
        // A thread that does not answer is asked no more.
        *thread = taken_back.then_some(orders);
    }
}

fn serve(orders: &Receiver<Order>) {
    if let Err(error) = talk(orders) {
        log::debug!("no desktop notification: {error}");
    }
}

fn talk(orders: &Receiver<Order>) -> zbus::Result<()> {
    let bus = connect()?;
    let mut shown = None;
    let mut next = orders.recv().ok();
    while let Some(order) = next {
        next = orders.try_recv().ok();
        match order {
            // The touch came before the bus did.
            Order::Show(_) if matches!(next, Some(Order::TakeBack(_))) => {}
            Order::Show(authenticator) => shown = Some(show(&bus, &authenticator)?),
            Order::TakeBack(done) => {
                if let Some(id) = shown.take() {
                    bus.call_method(Some(SERVICE), OBJECT, Some(SERVICE), "CloseNotification", &(id,))?;
                }
                // Nobody waits any more when it took too long.
                let _ = done.send(());
            }
        }
        next = next.or_else(|| orders.recv().ok());
    }
    Ok(())
}

/// Shows that a touch is waited for, and answers with the notification's number.
fn show(bus: &Connection, authenticator: &str) -> zbus::Result<u32> {
    let body = format!("passkeyfs waits for a touch of {authenticator}.");
    let hints = HashMap::from([("urgency", Value::from(CRITICAL)), ("transient", Value::from(true))]);
    notify(bus, "dialog-password", "Touch your security key", &body, hints, SHOWN_MILLISECONDS)
}

fn notify(
    bus: &Connection,
    icon: &str,
    summary: &str,
    body: &str,
    hints: HashMap<&str, Value<'_>>,
    shown_milliseconds: i32,
) -> zbus::Result<u32> {
    // The text may hold markup, which the name of a device or a file must not bring in.
    let body = body.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let no_actions: &[&str] = &[];
    let notification = ("passkeyfs", 0_u32, icon, summary, body, no_actions, hints, shown_milliseconds);
    let reply = bus.call_method(Some(SERVICE), OBJECT, Some(SERVICE), "Notify", &notification)?;
    reply.body().deserialize()
}

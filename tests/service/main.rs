//! The program as a service: asked for PINs by whoever starts it, telling of its state, and ending by itself.
//!
//! Runs the real program with a software authenticator. This test plays the rest: the service manager, the buses, the
//! person at the terminal. What needs a mount is tested where `/dev/fuse` can be used; elsewhere each test says so.

mod asking;
mod buses;
mod interrupted;
mod locking;
mod mounted_keys;
mod mounting;
mod older_folder;
mod other_users;
mod rig;
mod screen;
mod secrets;
mod serving;

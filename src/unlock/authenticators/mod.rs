//! Authenticators: the trait, what implements it, and what every one of them must do.
//!
//! Knows nothing of vaults, slots and files in the folder: from a relying party, credential ids and a salt it makes an
//! assertion with the secret of `hmac-secret`. Relies on `prompts` for the PIN and for announcing a touch.
//!
//! - [`authenticator`]: the trait, at the level of CTAP 2.1, its requests and answers, and how they fail.
//! - [`assertion`]: authenticator data and signatures as CTAP has them; what a relying party checks.
//! - `pin.rs`: PINs in the form in which authenticators compare them.
//! - [`hid`]: security keys over hidraw, in a process of their own. `hid/device.rs` alone names `ctap-hid-fido2`.
//! - [`software`]: an authenticator in a file, for tests and for trying passkeyfs without a key; [`software_file`]: the file.
//! - [`conformance`]: what every authenticator must do, as claims that are tried on one.

pub mod assertion;
pub mod authenticator;
pub mod conformance;
pub mod hid;
mod pin;
pub mod software;
pub mod software_file;

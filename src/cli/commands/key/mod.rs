//! `passkeyfs key`: the key slots of a vault.
//!
//! | file | what it is |
//! |---|---|
//! | `list.rs` | `key list` |
//! | `test.rs` | `key test` |
//! | `change.rs` | a vault opened to change its slots, directly or through its daemon |
//! | `add.rs` | `key add` |
//! | `remove.rs` | `key remove` |
//! | `rotate.rs` | `key rotate` |
//! | `pin.rs` | `key pin`: the PIN of a software authenticator |

pub mod add;
pub mod change;
pub mod list;
pub mod pin;
pub mod remove;
pub mod rotate;
pub mod test;

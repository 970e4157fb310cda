//! `passkeyfs recovery`: recovery codes and their printable kits.
//!
//! | file | what it is |
//! |---|---|
//! | `create.rs` | `recovery create` and `recovery test` |
//! | `new_code.rs` | makes a code, shows it, has part of it typed back; also for `init` |
//! | `kit.rs` | the printable kit: one HTML file |
//! | `kit.html` | its page, with placeholders |

pub mod create;
pub mod kit;
pub mod new_code;

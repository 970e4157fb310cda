//! Statuses of CTAP 2.1 (section 8.2) that mean something to us.

pub const INVALID_COMMAND: u8 = 0x01;
pub const CREDENTIAL_EXCLUDED: u8 = 0x19;
pub const INVALID_CREDENTIAL: u8 = 0x22;
pub const OPERATION_DENIED: u8 = 0x27;
pub const KEY_STORE_FULL: u8 = 0x28;
pub const UNSUPPORTED_OPTION: u8 = 0x2b;
pub const INVALID_OPTION: u8 = 0x2c;
pub const KEEPALIVE_CANCEL: u8 = 0x2d;
pub const NO_CREDENTIALS: u8 = 0x2e;
pub const USER_ACTION_TIMEOUT: u8 = 0x2f;
pub const PIN_INVALID: u8 = 0x31;
pub const PIN_BLOCKED: u8 = 0x32;
pub const PIN_AUTH_INVALID: u8 = 0x33;
pub const PIN_AUTH_BLOCKED: u8 = 0x34;
pub const PIN_NOT_SET: u8 = 0x35;
pub const PIN_POLICY_VIOLATION: u8 = 0x37;
pub const TOKEN_EXPIRED: u8 = 0x38;
pub const ACTION_TIMEOUT: u8 = 0x3a;
pub const USER_PRESENCE_REQUIRED: u8 = 0x3b;
pub const UV_BLOCKED: u8 = 0x3c;
pub const UV_INVALID: u8 = 0x3f;

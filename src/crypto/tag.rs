//! The tag that authenticates a block.

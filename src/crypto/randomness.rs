//! Where ids, salts, keys and padding come from: the kernel, or a seed in tests.

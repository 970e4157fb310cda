//! STAND-IN: the volume that the mount tests run on. The real one (over a store in memory) takes its place.

use std::sync::Arc;

use passkeyfs::volume::Volume;

/// A new, empty volume that belongs to whoever runs the test.
pub fn new_volume() -> Arc<Volume> {
    Arc::new(Volume::in_memory(nix::unistd::getuid().as_raw(), nix::unistd::getgid().as_raw()))
}

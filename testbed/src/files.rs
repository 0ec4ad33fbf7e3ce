//! The few files a server needs before it starts.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use tempfile::TempDir;

use crate::TestbedError;

/// A new folder under the system's temporary one; removed on drop.
pub(crate) fn temp_dir(server: &str) -> Result<TempDir, TestbedError> {
    tempfile::Builder::new()
        .prefix(&format!("testbed-{server}-"))
        .tempdir()
        .map_err(TestbedError::io("make a temporary folder"))
}

#[expect(
    clippy::disallowed_methods,
    reason = "a throw-away configuration in a private folder: nobody reads it yet"
)]
pub(crate) fn write(path: &Path, text: &str) -> Result<(), TestbedError> {
    std::fs::write(path, text).map_err(TestbedError::io(format!("write {}", path.display())))
}

/// Of this mode from the start: a key is never readable for others, a script runs at once.
pub(crate) fn write_with_mode(path: &Path, text: &str, mode: u32) -> Result<(), TestbedError> {
    let written = OpenOptions::new()
        .create(true)
        .truncate(true)
        .write(true)
        .mode(mode)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(TestbedError::io(format!("write {}", path.display())))
}

pub(crate) fn make_dir(path: &Path) -> Result<(), TestbedError> {
    std::fs::create_dir_all(path).map_err(TestbedError::io(format!("make {}", path.display())))
}

//! What the tests share.

/// Whether no process of this id is left, not even as a zombie.
pub fn is_gone(pid: u32) -> bool {
    !std::path::Path::new(&format!("/proc/{pid}")).exists()
}

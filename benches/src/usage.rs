//! What this process has used so far, as the kernel counts it (Linux).

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The time all its threads have been on a processor.
pub fn cpu() -> Duration {
    let spent = clock_gettime(ClockId::ProcessCPUTime);
    let seconds = u64::try_from(spent.tv_sec).unwrap_or_default();
    let nanoseconds = u64::try_from(spent.tv_nsec).unwrap_or_default();
    Duration::from_secs(seconds) + Duration::from_nanos(nanoseconds)
}

/// Its memory in KiB: now (`VmRSS`), and the most there has ever been (`VmHWM`); 0 where the kernel does not say.
pub fn memory_kib() -> (u64, u64) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let read = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.and_then(|rest| rest.split_whitespace().next()).and_then(|number| number.parse().ok())
    };
    (read("VmRSS:").unwrap_or_default(), read("VmHWM:").unwrap_or_default())
}

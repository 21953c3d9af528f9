//! Checks that a case leaves no descriptor, thread, child process or mapping of a machine behind.

use std::{
    fs, io, thread,
    time::{Duration, Instant},
};

#[derive(Debug, PartialEq)]
pub struct Left {
    pub descriptors: Vec<String>,
    /// The size of the mapped memory of machines.
    pub mapped: usize,
    pub threads: usize,
    pub children: bool,
}

impl Left {
    pub fn now() -> Self {
        let listed = fs::read_dir("/proc/self/fd").unwrap().flatten();
        // The descriptor of the listing itself is closed by now.
        let targets = listed.filter_map(|entry| fs::read_link(entry.path()).ok());
        let mut descriptors: Vec<_> = targets.map(|target| target.display().to_string()).collect();
        descriptors.retain(|target| !target.ends_with("/fd") && !is_shared(target));
        descriptors.sort();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let ours = |line: &&str| line.contains("memfd:vmffi") || line.contains("anon_inode:kvm");
        // SAFETY: all pointers are null.
        let waited = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
        let none = waited == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD);
        let threads = fs::read_dir("/proc/self/task").unwrap().count();
        Self { descriptors, mapped: maps.lines().filter(ours).count(), threads, children: !none }
    }
}

/// Whether a file belongs to an image or a builder, which keeps it for all of its machines.
/// `a_hundred_lives` of the machines' tests counts these as well.
pub fn is_shared(file: &str) -> bool {
    ["memfd:vmffi-image", "memfd:vmffi-tables", "memfd:vmffi-gate"]
        .iter()
        .any(|name| file.contains(name))
}

/// Runs a case, after which there must be no more child processes, threads, descriptors and mappings than before. Resources that
/// are made once and kept, such as the guest's image, must exist before.
pub fn nothing(case: impl FnOnce()) {
    let before = Left::now();
    assert_eq!((before.children, before.mapped), (false, 0), "nothing left by another case");
    case();
    // A thread that was joined may still be exiting.
    let patience = Instant::now() + Duration::from_secs(20);
    while Left::now() != before && Instant::now() < patience {
        thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(Left::now(), before);
}

/// The number of mappings of this process.
pub fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

//! What a case leaves behind: nothing.

use std::{fs, io};

#[derive(Debug, PartialEq)]
struct Left {
    descriptors: Vec<String>,
    /// Mapped memory of machines.
    mapped: usize,
    children: bool,
}

impl Left {
    fn now() -> Self {
        let listed = fs::read_dir("/proc/self/fd").unwrap().flatten();
        // The listing's own is gone by now.
        let targets = listed.filter_map(|entry| fs::read_link(entry.path()).ok());
        let mut descriptors: Vec<_> = targets.map(|target| target.display().to_string()).collect();
        descriptors.retain(|target| !target.ends_with("/fd"));
        descriptors.sort();
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let ours = |line: &&str| line.contains("memfd:vmffi") || line.contains("kvm");
        // SAFETY: no pointer leads anywhere.
        let waited = unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) };
        let none = waited == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD);
        Self { descriptors, mapped: maps.lines().filter(ours).count(), children: !none }
    }
}

/// Runs a case, after which there are no more child processes, descriptors and mappings than before.
pub fn nothing(case: impl FnOnce()) {
    // It is made once and stays.
    super::connection::image();
    let before = Left::now();
    assert_eq!((before.children, before.mapped), (false, 0), "left by another case");
    case();
    assert_eq!(Left::now(), before);
}

/// How many mappings this process has, whatever they are.
pub fn mappings() -> usize {
    fs::read_to_string("/proc/self/maps").unwrap().lines().count()
}

//! A folder with a user's packages, and the output of cargo there.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// The folder of the crate's repository.
pub const VMFFI: &str = env!("CARGO_MANIFEST_DIR");

/// A folder of its own, initially empty, with a space in its name.
pub struct Project(PathBuf);

/// The output of a command.
pub struct Said {
    pub success: bool,
    pub out: String,
    pub err: String,
}

impl Project {
    pub fn new(name: &str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("a newcomer").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).expect("the old folder can be removed");
        }
        fs::create_dir_all(&folder).expect("a folder");
        Self(folder)
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.0.join(file)
    }

    /// Writes a file. In manifests, the crate's version becomes its path.
    pub fn write(&self, file: &str, text: &str) {
        let path = self.path(file);
        let folder = path.parent().expect("the folder of a file");
        fs::create_dir_all(folder).expect("a folder");
        let here = format!("path = {VMFFI:?}");
        let text = text.replace("version = \"0.1\"", &here);
        fs::write(&path, text).expect("a file");
        // The dependencies that the crate is tested with.
        if path.ends_with("Cargo.toml") {
            let lock = Path::new(VMFFI).join("Cargo.lock");
            fs::copy(lock, folder.join("Cargo.lock")).expect("a lock file");
        }
    }

    /// Runs a shell command in this folder, offline, with a target folder that all projects share.
    pub fn run(&self, line: &str) -> Said {
        self.run_with(line, &[])
    }

    pub fn run_with(&self, line: &str, variables: &[(&str, &str)]) -> Said {
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("a newcomer/target");
        let cargo = Path::new(env!("CARGO")).parent().expect("the folder of cargo");
        let search = env::var_os("PATH").unwrap_or_default();
        let search = [cargo.to_owned()].into_iter().chain(env::split_paths(&search));
        let mut shell = Command::new("sh");
        shell.args(["-c", line]).current_dir(&self.0).stdin(Stdio::null());
        shell.env("PATH", env::join_paths(search).expect("a search path"));
        shell.env("CARGO_NET_OFFLINE", "true").env("CARGO_TARGET_DIR", target);
        shell.env("CARGO_INCREMENTAL", "0").env("CARGO_PROFILE_DEV_DEBUG", "line-tables-only");
        for flags in ["RUSTFLAGS", "CARGO_ENCODED_RUSTFLAGS", "RUSTC_WRAPPER"] {
            shell.env_remove(flags);
        }
        let output = shell.envs(variables.iter().copied()).output().expect("a shell");
        let text = |bytes| String::from_utf8(bytes).expect("text");
        let (out, err) = (text(output.stdout), text(output.stderr));
        Said { success: output.status.success(), out, err }
    }

    /// Runs a command that must succeed.
    pub fn must(&self, line: &str) -> Said {
        self.must_with(line, &[])
    }

    pub fn must_with(&self, line: &str, variables: &[(&str, &str)]) -> Said {
        let said = self.run_with(line, variables);
        assert!(said.success, "{line}\n{}\n{}", said.out, said.err);
        said
    }

    /// Runs a command that must fail.
    pub fn fails(&self, line: &str) -> Said {
        let said = self.run(line);
        assert!(!said.success, "{line}\n{}\n{}", said.out, said.err);
        said
    }
}

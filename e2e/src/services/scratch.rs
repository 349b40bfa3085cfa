//! A temporary directory that is removed even if this process is killed.
//!
//! A small shell process waits for the end of its standard input, whose other end only we hold; when we are gone,
//! it removes the directory. It touches nothing else, and ends at once when we have removed the directory ourselves.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::Context;
use tempfile::TempDir;

/// It waits before each try: the servers are being ended in the same moment and may still write. A database server
/// that loses its files while it ends crashes, and then leaves shared memory behind.
const GUARD: &str = r#"
trap '' INT TERM HUP
cat >/dev/null
tries=0
while [ -e "$1" ] && [ "$tries" -lt 10 ]; do
    sleep 1
    rm -rf -- "$1"
    tries=$((tries + 1))
done
"#;

/// A directory of its own, empty at first.
#[derive(Debug)]
pub struct ScratchDir {
    dir: Option<TempDir>,
    guard: Child,
}

impl ScratchDir {
    /// Makes it below the system's temporary directory. Others may pass through it, not look into it: as root, the
    /// database server runs as another user.
    ///
    /// # Errors
    ///
    /// It cannot be made, or `sh` cannot be started.
    pub fn new() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new()
            .prefix("rota-")
            .permissions(Permissions::from_mode(0o711))
            .tempdir()
            .context("make a temporary directory")?;
        let guard = Command::new("/bin/sh")
            .args(["-c", GUARD, "scratch-guard"])
            .arg(dir.path())
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn()
            .context("start the process that guards the temporary directory")?;
        Ok(Self { dir: Some(dir), guard })
    }

    /// Where it is.
    ///
    /// # Panics
    ///
    /// Never: the directory is there until the value is dropped.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.as_ref().expect("present until dropped").path()
    }
}

impl Drop for ScratchDir {
    fn drop(&mut self) {
        // If that fails, the guard tries too.
        drop(self.dir.take());
        drop(self.guard.stdin.take());
        self.guard.wait().ok();
    }
}

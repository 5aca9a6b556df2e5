//! A small file system that a test fills: a tmpfs over the directory of a server.

use std::{
    ffi::OsStr,
    fs,
    io::Write as _,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// What the mounts of this module are called, before the number of their process.
const NAME: &str = "agent-audit-disk-";

/// A small disk; it goes, with what is on it, when it is dropped.
///
/// A test that is killed leaves its disk behind: the next one that makes a disk takes it away.
///
/// ```
/// use agent_audit_test_support::disk::SmallDisk;
/// let folder = tempfile::tempdir()?;
/// std::fs::write(folder.path().join("kept"), "before")?;
/// // Only who may mount has one.
/// if let Some(disk) = SmallDisk::over(folder.path(), 1 << 20) {
///     assert_eq!(std::fs::read_to_string(folder.path().join("kept"))?, "before");
///     disk.fill();
///     assert!(std::fs::write(folder.path().join("more"), [1; 10_000]).is_err());
///     disk.make_room();
///     std::fs::write(folder.path().join("more"), [1; 10_000])?;
/// }
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct SmallDisk {
    place: PathBuf,
}

impl SmallDisk {
    /// Puts a disk over a directory, with what the directory holds on it and so many bytes to spare.
    /// None where this user may not mount one.
    ///
    /// # Panics
    /// Where the directory cannot be copied.
    #[must_use]
    pub fn over(place: &Path, spare: u64) -> Option<Self> {
        take_away_what_was_left();
        let aside = tempfile::tempdir().unwrap();
        copy(place, aside.path());
        let size = used(aside.path()) + spare;
        let mode = fs::metadata(place).unwrap().mode() & 0o7777;
        let mounted = command("mount", &["-t", "tmpfs", "-o"])
            .arg(format!("size={size},mode={mode:o}"))
            .arg(format!("{NAME}{}", std::process::id()))
            .arg(place)
            .output();
        if !mounted.is_ok_and(|done| done.status.success()) {
            return None;
        }
        let disk = Self { place: place.to_owned() };
        copy(aside.path(), place);
        Some(disk)
    }

    /// Takes all room there is. What writes on the disk can free some of it again.
    ///
    /// # Panics
    /// Where the disk cannot be written to for another reason.
    pub fn fill(&self) {
        let ballast = fs::OpenOptions::new().append(true).create(true).open(self.ballast());
        let mut ballast = ballast.unwrap();
        for block in [64 << 10, 4 << 10, 1] {
            while ballast.write_all(&vec![1; block]).is_ok() {}
        }
    }

    /// Gives back what was taken.
    ///
    /// # Panics
    /// Where nothing was taken.
    pub fn make_room(&self) {
        fs::remove_file(self.ballast()).unwrap();
    }

    fn ballast(&self) -> PathBuf {
        self.place.join("ballast")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        unmount(self.place.as_os_str());
    }
}

/// Whoever still has files open there keeps them until he lets go of them.
fn unmount(place: &OsStr) {
    let _ = command("umount", &["-l"]).arg(place).output();
}

/// Unmounts the disks of processes that are gone.
fn take_away_what_was_left() {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    for (name, place) in mounts.lines().filter_map(mount) {
        let owner = name.strip_prefix(NAME);
        if owner.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            unmount(place.as_ref());
        }
    }
}

/// Name and place of a mount, as a line of `mountinfo` has them: the place is the fifth word, the
/// name the second behind the dash.
fn mount(line: &str) -> Option<(&str, &str)> {
    let (before, behind) = line.split_once(" - ")?;
    Some((behind.split(' ').nth(1)?, before.split(' ').nth(4)?))
}

/// Copies what a directory holds, with owners, modes and times.
fn copy(from: &Path, to: &Path) {
    let copied = command("cp", &["-a"]).arg(from.join(".")).arg(to).output().unwrap();
    assert!(copied.status.success(), "{}", String::from_utf8_lossy(&copied.stderr));
}

/// How many bytes what a directory holds takes up, in blocks.
fn used(place: &Path) -> u64 {
    let kib = command("du", &["-sk"]).arg(place).output().unwrap().stdout;
    let kib = String::from_utf8_lossy(&kib);
    let kib: u64 = kib.split_whitespace().next().unwrap().parse().unwrap();
    kib << 10
}

fn command(program: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_found_by_its_name() {
        let line = "36 35 98:0 / /tmp/.x rw,noatime shared:1 - tmpfs agent-audit-disk-7 rw,size=1k";
        assert_eq!(mount(line), Some(("agent-audit-disk-7", "/tmp/.x")));
        assert_eq!(mount("nothing of the kind"), None);
    }

    #[test]
    fn what_a_killed_process_left_is_taken_away_and_what_is_in_use_stays() {
        let (left, used) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let Some(disk) = SmallDisk::over(used.path(), 1 << 20) else { return };
        // No process has that number.
        let mut stale = command("mount", &["-t", "tmpfs", &format!("{NAME}4194305")]);
        assert!(stale.arg(left.path()).status().unwrap().success());
        let mounted = |place: &Path| {
            let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
            mounts.lines().filter_map(super::mount).any(|(_, at)| Path::new(at) == place)
        };
        assert!(mounted(left.path()) && mounted(used.path()));
        take_away_what_was_left();
        assert!(!mounted(left.path()) && mounted(used.path()));
        drop(disk);
        assert!(!mounted(used.path()));
    }
}

//! Where a signing key comes from: the environment or a file of its own.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::{KeyError, SigningKey, VerifyingKey};

/// The environment variable that may hold a seed, as base64.
pub const SIGNING_KEY_VARIABLE: &str = "AGENT_AUDIT_SIGNING_KEY";

impl SigningKey {
    /// The key of the environment if there is one, else that of the file, made at first use.
    ///
    /// # Errors
    ///
    /// As [`from_env`](Self::from_env) and [`load_or_create`](Self::load_or_create). A variable
    /// that is set and wrong is an error; the file is not tried then.
    pub fn from_env_or_file(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        match Self::from_env()? {
            Some(key) => Ok(key),
            None => Self::load_or_create(path),
        }
    }

    /// Reads the seed in [`SIGNING_KEY_VARIABLE`]; `None` if the variable is not set.
    ///
    /// # Errors
    ///
    /// If the variable is set, if only to nothing, and is not the base64 of 32 bytes.
    pub fn from_env() -> Result<Option<Self>, KeyFileError> {
        std::env::var_os(SIGNING_KEY_VARIABLE).map(from_variable).transpose()
    }

    /// Loads the key from the file, or makes the file with a new key.
    ///
    /// A new file is complete, on disk and readable by its owner alone (mode 0600) before it has
    /// its name; of several processes that start at once, all use the one key that came first.
    /// Beside it stands `<path>.pub`, one line with the public key, for verifiers.
    ///
    /// # Errors
    ///
    /// If the file can be read by others than its owner, is malformed, does not belong to the
    /// `.pub` file beside it, or cannot be read or written. A file that is there is never
    /// replaced.
    pub fn load_or_create(path: impl AsRef<Path>) -> Result<Self, KeyFileError> {
        let path = path.as_ref();
        let (key, new) = match File::open(path) {
            Ok(file) => (read_key(file, path)?, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => create_key(path)?,
            Err(source) => return Err(KeyFileError::io("open", path, source)),
        };
        match write_public(&key.verifying_key(), path) {
            // A key that is mounted read-only has to do without a `.pub` file.
            Err(error) if !new && error.is_denied() => {
                tracing::debug!(%error, "public key file not written");
                Ok(key)
            }
            result => result.map(|()| key),
        }
    }
}

/// Why no signing key could be had.
///
/// ```
/// use agent_audit_core::key::SigningKey;
///
/// let error = SigningKey::load_or_create("/no/such/directory/key").unwrap_err();
/// assert!(!error.is_exposed());
/// assert!(error.to_string().contains("/no/such/directory/key"));
/// ```
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct KeyFileError(#[from] Fault);

impl KeyFileError {
    /// Whether the key is there but others can read it.
    #[must_use]
    pub fn is_exposed(&self) -> bool {
        matches!(self.0, Fault::Exposed { .. })
    }

    fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        Self(Fault::Io { action, path, source })
    }

    fn is_denied(&self) -> bool {
        use io::ErrorKind::{PermissionDenied, ReadOnlyFilesystem};
        matches!(&self.0, Fault::Io { source, .. }
            if matches!(source.kind(), PermissionDenied | ReadOnlyFilesystem))
    }
}

#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error("cannot {action} {}", path.display())]
    Io { action: &'static str, path: PathBuf, source: io::Error },
    #[error(
        "the signing key {path} can be read by others than its owner (mode {mode:04o}): run `chmod 600 {path}`, and if it may have been read, make a new key",
        path = path.display()
    )]
    Exposed { path: PathBuf, mode: u32 },
    #[error(
        "the signing key {} is not one line `{HEADER} <base64 of 32 bytes>`: restore it from a backup, or move it away to start with a new key",
        path.display()
    )]
    Malformed { path: PathBuf },
    #[error(
        "{} holds another public key than that of the signing key beside it: if the signing key was replaced on purpose, remove this file",
        path.display()
    )]
    Mismatch { path: PathBuf },
    #[error(
        "the environment variable {SIGNING_KEY_VARIABLE} is set but holds no key: give it the base64 of a 32-byte seed, or unset it to use a key file"
    )]
    Environment { source: KeyError },
    #[error("cannot make a signing key")]
    Generate { source: KeyError },
}

const HEADER: &str = "agent-audit-ed25519-seed-v1";

/// Header, space, base64 of 32 bytes, newline: the exact length of a key file.
const KEY_FILE_BYTES: usize = HEADER.len() + 1 + 44 + 1;

fn from_variable(value: OsString) -> Result<SigningKey, KeyFileError> {
    // Erased here; the process environment itself is out of our hands.
    let value = Zeroizing::new(value.into_encoded_bytes());
    std::str::from_utf8(&value)
        .map_err(|_| KeyError(super::Fault::Seed))
        .and_then(|text| SigningKey::from_seed_base64(text.trim_ascii()))
        .map_err(|source| KeyFileError(Fault::Environment { source }))
}

fn read_key(file: File, path: &Path) -> Result<SigningKey, KeyFileError> {
    // Asked of the open file, so that it cannot be exchanged between the check and the read.
    let metadata = file.metadata().map_err(|source| KeyFileError::io("inspect", path, source))?;
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        let path = path.to_owned();
        return Err(Fault::Exposed { path, mode }.into());
    }
    // With room for one byte too many: enough to see that a file is too long, and no
    // reallocation leaves a copy of the secret behind.
    let mut text = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES + 64));
    file.take(KEY_FILE_BYTES as u64 + 1)
        .read_to_end(&mut text)
        .map_err(|source| KeyFileError::io("read", path, source))?;
    std::str::from_utf8(&text)
        .ok()
        .and_then(|text| text.strip_prefix(HEADER)?.strip_prefix(' ')?.strip_suffix('\n'))
        .and_then(|seed| SigningKey::from_seed_base64(seed).ok())
        .ok_or_else(|| {
            let path = path.to_owned();
            Fault::Malformed { path }.into()
        })
}

/// The key that is in the file in the end, and whether it is this call's.
fn create_key(path: &Path) -> Result<(SigningKey, bool), KeyFileError> {
    let key = SigningKey::generate().map_err(|source| Fault::Generate { source })?;
    let seed = key.to_seed_base64();
    // Of its final size from the start: growing would leave parts of the secret behind.
    let mut text = Zeroizing::new(String::with_capacity(KEY_FILE_BYTES));
    for part in [HEADER, " ", seed.expose(), "\n"] {
        text.push_str(part);
    }
    if publish(path, text.as_bytes(), 0o600)? {
        return Ok((key, true));
    }
    let file = File::open(path).map_err(|source| KeyFileError::io("open", path, source))?;
    Ok((read_key(file, path)?, false))
}

fn write_public(key: &VerifyingKey, key_path: &Path) -> Result<(), KeyFileError> {
    let mut path = key_path.as_os_str().to_owned();
    path.push(".pub");
    let path = PathBuf::from(path);
    let text = format!("{key}\n");
    let found = match fs::read(&path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if publish(&path, text.as_bytes(), 0o644)? {
                return Ok(());
            }
            fs::read(&path)
        }
        found => found,
    };
    let found = found.map_err(|source| KeyFileError::io("read", &path, source))?;
    if found.trim_ascii() == text.trim_ascii().as_bytes() {
        Ok(())
    } else {
        Err(Fault::Mismatch { path }.into())
    }
}

/// Makes the file with exactly these bytes, durably; `false` if there is one already.
///
/// Written under another name and linked to its own, so that a crash or a second process never
/// sees, or leaves, half a key.
fn publish(path: &Path, bytes: &[u8], mode: u32) -> Result<bool, KeyFileError> {
    let fail = |action, source| KeyFileError::io(action, path, source);
    let mut draft = path.as_os_str().to_owned();
    draft.push(format!(".{}.new", uuid::Uuid::now_v7().simple()));
    let draft = PathBuf::from(draft);
    let published =
        write_new(&draft, bytes, mode).and_then(|()| match fs::hard_link(&draft, path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            // A file system without hard links: the name is still taken once only, but a crash
            // just now would leave a file that is refused as malformed.
            Err(_) => match write_new(path, bytes, mode) {
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
                result => result.map(|()| true),
            },
        });
    // What is left of a draft is a secret that was never used.
    let removed = fs::remove_file(&draft);
    let published = published.map_err(|source| fail("create", source))?;
    removed.map_err(|source| fail("remove the draft of", source))?;
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(|source| fail("sync the directory of", source))?;
    Ok(published)
}

fn write_new(path: &Path, bytes: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_key_is_made_once_and_for_its_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("signing.key");
        let made = SigningKey::load_or_create(&path).unwrap().verifying_key();
        assert_eq!(mode(&path), 0o600);
        assert_eq!(names(directory.path()), ["signing.key", "signing.key.pub"]);
        let public = fs::read_to_string(directory.path().join("signing.key.pub")).unwrap();
        assert_eq!(public, format!("{made}\n"));
        let loaded = SigningKey::load_or_create(&path).unwrap().verifying_key();
        assert_eq!(loaded, made);
    }

    /// The process environment is shared by all tests, so what is in it is tested by value.
    #[test]
    fn a_variable_holds_a_seed_or_is_an_error() {
        let key = SigningKey::from_seed(&[5; 32]);
        let text = key.to_seed_base64().expose().to_owned();
        for good in [text.clone(), format!(" {text}\n")] {
            let read = from_variable(good.into()).unwrap();
            assert_eq!(read.verifying_key(), key.verifying_key());
        }
        let not_utf8 = std::os::unix::ffi::OsStringExt::from_vec(vec![0xff; 44]);
        for bad in ["".into(), text[1..].into(), format!("{HEADER} {text}").into(), not_utf8] {
            let error = from_variable(bad).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains(SIGNING_KEY_VARIABLE), "{shown}");
            assert!(!shown.contains(&text[1..]), "{shown}");
        }
    }

    #[test]
    fn the_file_format_is_the_documented_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        let key = SigningKey::load_or_create(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.len(), KEY_FILE_BYTES);
        let seed = key.to_seed_base64();
        assert_eq!(text, format!("agent-audit-ed25519-seed-v1 {}\n", seed.expose()));
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        SigningKey::load_or_create(&path).unwrap();
        for exposed in [0o640, 0o604, 0o644, 0o620, 0o601, 0o660] {
            set_mode(&path, exposed);
            let error = SigningKey::load_or_create(&path).unwrap_err();
            assert!(error.is_exposed());
            let message = error.to_string();
            assert!(message.contains(&format!("chmod 600 {}", path.display())), "{message}");
        }
        for private in [0o600, 0o400] {
            set_mode(&path, private);
            SigningKey::load_or_create(&path).unwrap();
        }
    }

    #[test]
    fn a_malformed_key_is_refused_and_kept() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        SigningKey::load_or_create(&path).unwrap();
        let good = fs::read_to_string(&path).unwrap();
        let seed = good.split_once(' ').unwrap().1;
        for bad in [
            String::new(),
            "\n".into(),
            good[..good.len() - 1].into(),
            good[..good.len() / 2].into(),
            format!("{good}\n"),
            format!("{good}{good}"),
            seed.into(),
            good.replace("-v1", "-v2"),
            good.replace(' ', "  "),
            good.replace('\n', "\r\n"),
            "\u{fffd}".repeat(30),
        ] {
            fs::write(&path, &bad).unwrap();
            let error = SigningKey::load_or_create(&path).unwrap_err();
            let shown = format!("{error} {error:?}");
            assert!(shown.contains("not one line"), "{shown}");
            assert!(!shown.contains(seed.trim_end()), "{shown}");
            assert_eq!(fs::read_to_string(&path).unwrap(), bad);
        }
    }

    #[test]
    fn an_exchanged_key_does_not_pass_for_the_old_one() {
        let directory = tempfile::tempdir().unwrap();
        let (old, new) = (directory.path().join("old"), directory.path().join("new"));
        SigningKey::load_or_create(&old).unwrap();
        SigningKey::load_or_create(&new).unwrap();
        fs::copy(&new, &old).unwrap();
        let message = SigningKey::load_or_create(&old).unwrap_err().to_string();
        assert!(message.contains("old.pub") && message.contains("remove"), "{message}");
    }

    #[test]
    fn a_linked_key_is_judged_by_the_file_it_links_to() {
        let directory = tempfile::tempdir().unwrap();
        let (target, link) = (directory.path().join("target"), directory.path().join("link"));
        let key = SigningKey::load_or_create(&target).unwrap().verifying_key();
        symlink(&target, &link).unwrap();
        assert_eq!(SigningKey::load_or_create(&link).unwrap().verifying_key(), key);
        set_mode(&target, 0o644);
        assert!(SigningKey::load_or_create(&link).unwrap_err().is_exposed());
    }

    #[test]
    fn what_cannot_be_opened_or_made_says_so() {
        let directory = tempfile::tempdir().unwrap();
        let missing = directory.path().join("missing").join("key");
        let error = SigningKey::load_or_create(&missing).unwrap_err();
        assert!(error.to_string().contains("missing/key"), "{error}");
        set_mode(directory.path(), 0o700);
        assert!(SigningKey::load_or_create(directory.path()).is_err());
    }

    #[test]
    fn all_who_start_at_once_get_one_key() {
        let directory = tempfile::tempdir().unwrap();
        for round in 0..20 {
            let path = directory.path().join(format!("key{round}"));
            let start = std::sync::Barrier::new(8);
            let keys: Vec<_> = std::thread::scope(|scope| {
                let make = || {
                    start.wait();
                    SigningKey::load_or_create(&path).unwrap().verifying_key()
                };
                let threads: Vec<_> = (0..8).map(|_| scope.spawn(make)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            assert!(keys.iter().all(|key| *key == keys[0]));
        }
        assert_eq!(names(directory.path()).len(), 40);
    }
}

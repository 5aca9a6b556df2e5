//! Requests to one bucket.

use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use agent_audit_core::{hash::Hash, sink::SinkErrorKind};
use aws_sdk_s3::{
    Client,
    error::ProvideErrorMetadata,
    primitives::{ByteStream, DateTime},
    types::{
        DeleteMarkerEntry, ObjectLockEnabled, ObjectLockLegalHoldStatus, ObjectLockMode,
        ObjectVersion,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;

use crate::{
    config::{CreateOnce, Lock, LockMode, S3Config},
    error::Fault,
};

/// A bucket and how it is written to.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    client: Client,
    name: Arc<str>,
    lock: Option<Lock>,
    legal_hold: bool,
    pub(crate) create_once: CreateOnce,
}

/// What became of an object that was to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Put {
    /// It is stored, as this version where the bucket has versions.
    Stored { version: Option<String> },
    /// Something lies under the key already.
    Exists,
}

/// An object as it was read.
#[derive(Debug, Clone)]
pub(crate) struct Object {
    pub(crate) body: Bytes,
    pub(crate) written: i64,
    pub(crate) lock: Option<(LockMode, i64)>,
    pub(crate) legal_hold: bool,
}

/// All that a bucket keeps under one key.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeyVersions {
    pub(crate) key: String,
    /// Newest first. A bucket without versions has one, without an id.
    pub(crate) versions: Vec<Option<String>>,
    /// How many times the object was deleted without naming a version.
    pub(crate) markers: usize,
}

impl KeyVersions {
    /// The version that was written first.
    pub(crate) fn oldest(&self) -> Option<&Option<String>> {
        self.versions.last()
    }
}

/// Where a listing goes on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Page {
    key: Option<String>,
    version: Option<String>,
}

impl Page {
    /// Behind a key.
    pub(crate) fn after(key: String) -> Self {
        Self { key: Some(key), version: None }
    }
}

impl Bucket {
    pub(crate) fn new(client: Client, config: &S3Config) -> Self {
        Self {
            client,
            name: config.bucket.as_str().into(),
            lock: config.lock,
            legal_hold: config.legal_hold,
            create_once: config.create_once,
        }
    }

    /// Creates an object, with its lock and its SHA-256, once where the service can.
    pub(crate) async fn put(
        &self,
        key: &str,
        media_type: &str,
        body: Bytes,
        sha256: &Hash,
    ) -> Result<Put, Fault> {
        let once = self.create_once == CreateOnce::Conditional;
        self.put_object(key, media_type, body, sha256, once).await
    }

    /// Writes a version of an object, with its lock and its SHA-256, whether there are others or not.
    pub(crate) async fn put_version(
        &self,
        key: &str,
        media_type: &str,
        body: Bytes,
        sha256: &Hash,
    ) -> Result<Put, Fault> {
        self.put_object(key, media_type, body, sha256, false).await
    }

    async fn put_object(
        &self,
        key: &str,
        media_type: &str,
        body: Bytes,
        sha256: &Hash,
        once: bool,
    ) -> Result<Put, Fault> {
        let doing = format!("put {key}");
        let checksum = STANDARD.encode(sha256.as_bytes());
        let mut request = self
            .client
            .put_object()
            .bucket(&*self.name)
            .key(key)
            .content_type(media_type)
            .checksum_sha256(&checksum)
            .body(ByteStream::from(body));
        if once {
            request = request.if_none_match("*");
        }
        if let Some(lock) = &self.lock {
            let until = now_seconds().saturating_add_unsigned(lock.retention_seconds);
            request = request
                .object_lock_mode(mode(lock.mode))
                .object_lock_retain_until_date(DateTime::from_secs(until));
        }
        if self.legal_hold {
            request = request.object_lock_legal_hold_status(ObjectLockLegalHoldStatus::On);
        }
        match request.send().await {
            Ok(done) => {
                // A service that ignores checksums answers without one.
                if done.checksum_sha256().is_some_and(|stored| stored != checksum) {
                    return Err(Fault::corrupt(format!("{doing}: another SHA-256 was stored")));
                }
                Ok(Put::Stored { version: real_version(done.version_id()) })
            }
            Err(error) => {
                let fault = Fault::of(&error, &doing);
                match fault.status() {
                    Some(412) => Ok(Put::Exists),
                    _ => Err(fault),
                }
            }
        }
    }

    /// Reads an object; `None` where there is no such version of it.
    pub(crate) async fn get(
        &self,
        key: &str,
        version: Option<&str>,
    ) -> Result<Option<Object>, Fault> {
        let doing = format!("get {key}");
        let request = self.client.get_object().bucket(&*self.name).key(key);
        let answer = match request.set_version_id(version.map(str::to_owned)).send().await {
            Ok(answer) => answer,
            Err(error) => {
                let fault = Fault::of(&error, &doing);
                let gone = match fault.status() {
                    Some(404) => fault.is_not_found(),
                    // A delete marker, asked for by its version.
                    Some(405) => true,
                    // What is no version id at all.
                    Some(400) => version.is_some() && fault.kind == SinkErrorKind::Misconfigured,
                    _ => false,
                };
                return if gone { Ok(None) } else { Err(fault) };
            }
        };
        let mode = answer.object_lock_mode().and_then(|mode| match mode {
            ObjectLockMode::Compliance => Some(LockMode::Compliance),
            ObjectLockMode::Governance => Some(LockMode::Governance),
            _ => None,
        });
        let until = answer.object_lock_retain_until_date().map(DateTime::secs);
        let hold = answer.object_lock_legal_hold_status() == Some(&ObjectLockLegalHoldStatus::On);
        let written = answer.last_modified().map_or(0, DateTime::secs);
        let body = answer.body.collect().await.map_err(|_| Fault::broken_body(&doing))?;
        Ok(Some(Object {
            body: body.into_bytes(),
            written,
            lock: mode.zip(until),
            legal_hold: hold,
        }))
    }

    /// One page of a listing of all versions: the entries of each key that is complete in it, and
    /// where it goes on.
    pub(crate) async fn versions(
        &self,
        prefix: &str,
        page: Page,
        most: i32,
    ) -> Result<(Vec<KeyVersions>, Option<Page>), Fault> {
        let doing = format!("list {prefix}");
        let answer = self
            .client
            .list_object_versions()
            .bucket(&*self.name)
            .prefix(prefix)
            .max_keys(most)
            .set_key_marker(page.key)
            .set_version_id_marker(page.version)
            .send()
            .await
            .map_err(|error| Fault::of(&error, &doing))?;
        let mut keys = merge(answer.versions(), answer.delete_markers());
        let next = answer.is_truncated().unwrap_or_default().then(|| Page {
            key: answer.next_key_marker().map(str::to_owned),
            version: answer.next_version_id_marker().map(str::to_owned),
        });
        if next.as_ref().is_some_and(|next| next.key.is_none()) {
            return Err(Fault::corrupt(format!(
                "{doing}: the listing does not say how it goes on"
            )));
        }
        keys.retain(|entry| entry.key.starts_with(prefix));
        Ok((keys, next))
    }

    /// All versions of all keys below a prefix, from a place on, until `each` says that it is enough.
    /// Keys come in order, each once with all of its versions.
    pub(crate) async fn walk(
        &self,
        prefix: &str,
        from: Page,
        page_size: i32,
        mut each: impl FnMut(KeyVersions) -> bool + Send,
    ) -> Result<(), Fault> {
        let mut page = from;
        // The last key of a page may go on in the next one.
        let mut open: Option<KeyVersions> = None;
        loop {
            let (keys, next) = self.versions(prefix, page, page_size).await?;
            for entry in keys {
                match &mut open {
                    Some(open) if open.key == entry.key => {
                        open.versions.extend(entry.versions);
                        open.markers += entry.markers;
                    }
                    _ => {
                        if open.replace(entry).is_some_and(|whole| !each(whole)) {
                            return Ok(());
                        }
                    }
                }
            }
            match next {
                Some(next) => page = next,
                None => break,
            }
        }
        if let Some(whole) = open {
            each(whole);
        }
        Ok(())
    }

    /// The first key below a prefix that is `wanted`, from a place on.
    pub(crate) async fn first(
        &self,
        prefix: &str,
        from: Page,
        wanted: impl Fn(&str) -> bool + Send + Sync,
    ) -> Result<Option<KeyVersions>, Fault> {
        let mut first = None;
        let take = |entry: KeyVersions| {
            if wanted(&entry.key) {
                first = Some(entry);
            }
            first.is_none()
        };
        self.walk(prefix, from, 8, take).await?;
        Ok(first)
    }

    /// The folders directly below a prefix, deleted ones too.
    pub(crate) async fn folders(&self, prefix: &str) -> Result<Vec<String>, Fault> {
        let doing = format!("list the folders of {prefix:?}");
        let mut folders: Vec<String> = Vec::new();
        let mut page = Page::default();
        loop {
            let answer = self
                .client
                .list_object_versions()
                .bucket(&*self.name)
                .prefix(prefix)
                .delimiter("/")
                .set_key_marker(page.key)
                .set_version_id_marker(page.version)
                .send()
                .await
                .map_err(|error| Fault::of(&error, &doing))?;
            let names = answer.common_prefixes().iter().filter_map(|folder| folder.prefix());
            folders.extend(
                names.filter_map(|name| {
                    Some(name.strip_prefix(prefix)?.strip_suffix('/')?.to_owned())
                }),
            );
            if !answer.is_truncated().unwrap_or_default() {
                break;
            }
            page = Page {
                key: answer.next_key_marker().map(str::to_owned),
                version: answer.next_version_id_marker().map(str::to_owned),
            };
            if page.key.is_none() {
                return Err(Fault::corrupt(format!("{doing}: it does not say how it goes on")));
            }
        }
        folders.dedup();
        Ok(folders)
    }

    /// Whether the bucket is there, has Object Lock where that is wanted, and can be listed and
    /// written to by this process. An upload that is begun and given up shows the last of it: it
    /// leaves nothing behind.
    pub(crate) async fn check(&self, prefix: &str) -> Result<(), Fault> {
        self.versions(prefix, Page::default(), 1).await?;
        if self.lock.is_some() || self.legal_hold {
            let doing = "read the Object Lock configuration of the bucket";
            let answer = self.client.get_object_lock_configuration().bucket(&*self.name);
            let answer = answer.send().await.map_err(|error| Fault::of(&error, doing))?;
            let enabled = answer.object_lock_configuration().and_then(|c| c.object_lock_enabled());
            if enabled != Some(&ObjectLockEnabled::Enabled) {
                let what = format!("{doing}: Object Lock is not enabled; enable it on the bucket");
                return Err(Fault::new(SinkErrorKind::Misconfigured, what));
            }
        }
        let key = format!("{prefix}check");
        let doing = "begin an upload";
        let upload = self.client.create_multipart_upload().bucket(&*self.name).key(&key);
        let upload = upload.send().await.map_err(|error| Fault::of(&error, doing))?;
        let abort = self.client.abort_multipart_upload().bucket(&*self.name).key(&key);
        let abort = abort.set_upload_id(upload.upload_id().map(str::to_owned)).send().await;
        match abort {
            Err(error) if error.code() != Some("NoSuchUpload") => {
                Err(Fault::of(&error, "give up an upload that was begun"))
            }
            _ => Ok(()),
        }
    }
}

/// Both lists are sorted by key, and versions of one key from the newest on.
fn merge(versions: &[ObjectVersion], markers: &[DeleteMarkerEntry]) -> Vec<KeyVersions> {
    let mut keys: Vec<KeyVersions> = Vec::new();
    let at = |keys: &mut Vec<KeyVersions>, key: &str| {
        let place = keys.binary_search_by(|entry| entry.key.as_str().cmp(key));
        place.unwrap_or_else(|place| {
            keys.insert(place, KeyVersions { key: key.to_owned(), ..KeyVersions::default() });
            place
        })
    };
    for version in versions {
        let Some(key) = version.key() else { continue };
        let place = at(&mut keys, key);
        keys[place].versions.push(real_version(version.version_id()));
    }
    for marker in markers {
        let Some(key) = marker.key() else { continue };
        let place = at(&mut keys, key);
        keys[place].markers += 1;
    }
    keys
}

/// A bucket without versions says `null`.
fn real_version(version: Option<&str>) -> Option<String> {
    version.filter(|version| !version.is_empty() && *version != "null").map(str::to_owned)
}

fn mode(mode: LockMode) -> ObjectLockMode {
    match mode {
        LockMode::Compliance => ObjectLockMode::Compliance,
        LockMode::Governance => ObjectLockMode::Governance,
    }
}

fn now_seconds() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_and_markers_of_a_key_are_joined() {
        let version =
            |key: &str, id: &str| ObjectVersion::builder().key(key).version_id(id).build();
        let marker = DeleteMarkerEntry::builder().key("b").version_id("9").build();
        let keys = merge(&[version("a", "null"), version("c", "2"), version("c", "1")], &[marker]);
        let names: Vec<&str> = keys.iter().map(|entry| entry.key.as_str()).collect();
        assert_eq!(names, ["a", "b", "c"]);
        assert_eq!(keys[0].oldest(), Some(&None));
        assert_eq!((keys[1].oldest(), keys[1].markers), (None, 1));
        assert_eq!(keys[2].oldest(), Some(&Some("1".to_owned())));
    }
}

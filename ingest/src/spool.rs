//! Events on disk while the broker takes none: bounded, synced before the sender is answered.
//!
//! One JSON line an event, appended to one file and synced. Draining takes whole files: the file that
//! is being written is closed first and a new one begun. A line that a crash cut short was never
//! answered with 200; it is dropped and said so.
//!
//! Replicas may share one folder (a volume): each takes a place in it that nobody holds, and also brings
//! away what a replica that is gone has left in its own ([`Spool::left_behind`]).

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::broker::{Headers, Message, Route};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The ending of the spool's files.
const ENDING: &str = "spool";

/// How many processes may share a folder; more than anybody runs on one host.
const PLACES: u32 = 64;

/// A folder of events: one place in the folder that is configured.
pub(crate) struct Spool {
    /// The folder that is configured; it is the first place itself.
    root: PathBuf,
    directory: PathBuf,
    max_bytes: u64,
    state: Mutex<State>,
    /// Held as long as this lives: two processes would drain and delete each other's files.
    _lock: File,
}

struct State {
    /// The file that is being written.
    writing: Option<File>,
    /// The number of the newest file.
    newest: u64,
    /// Bytes in all files.
    bytes: u64,
}

/// Why an event is not in the spool.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SpoolError {
    #[error("the spool is full: {0} bytes are allowed")]
    Full(u64),
    #[error("writing to the spool")]
    Io(#[from] io::Error),
    #[error("the write to the spool was interrupted")]
    Interrupted,
}

/// A file that is not written any more.
pub(crate) struct SpoolFile {
    pub(crate) path: PathBuf,
    pub(crate) entries: Vec<(Route, Message)>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    exchange: String,
    routing_key: String,
    id: String,
    kind: String,
    /// The envelope is JSON, so it is text.
    body: String,
    first_seen: Option<Timestamp>,
    traceparent: Option<String>,
}

impl Spool {
    /// Opens the first free place in the folder, with what an earlier process left there.
    pub(crate) fn open(root: &Path, max_bytes: u64) -> io::Result<Self> {
        for number in 1..=PLACES {
            if let Some(spool) = Self::open_place(root, place(root, number), max_bytes)? {
                return Ok(spool);
            }
        }
        Err(io::Error::other(format!("{PLACES} other processes use it")))
    }

    /// The places in which a process that is gone left events. They are held until dropped.
    pub(crate) fn left_behind(&self) -> io::Result<Vec<Self>> {
        let mut left = Vec::new();
        for directory in (1..=PLACES).map(|number| place(&self.root, number)) {
            if directory != self.directory
                && directory.is_dir()
                && !files(&directory)?.is_empty()
                && let Some(spool) = Self::open_place(&self.root, directory, self.max_bytes)?
            {
                left.push(spool);
            }
        }
        Ok(left)
    }

    /// `None` where another process holds it.
    fn open_place(root: &Path, directory: PathBuf, max_bytes: u64) -> io::Result<Option<Self>> {
        fs::create_dir_all(&directory)?;
        // A folder that cannot be written is found out now, not when the broker is away.
        let lock = File::create(directory.join("lock"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut state = State { writing: None, newest: 0, bytes: 0 };
        for (number, path) in files(&directory)? {
            state.newest = state.newest.max(number);
            state.bytes += fs::metadata(path)?.len();
        }
        let state = Mutex::new(state);
        Ok(Some(Self { root: root.to_owned(), directory, max_bytes, state, _lock: lock }))
    }

    /// How much is in it.
    pub(crate) fn bytes(&self) -> u64 {
        self.lock().bytes
    }

    /// Adds an event; returns when it is on disk. Blocks.
    pub(crate) fn append(&self, route: &Route, message: &Message) -> Result<(), SpoolError> {
        let line = Line {
            exchange: route.exchange.clone(),
            routing_key: route.routing_key.clone(),
            id: message.id.clone(),
            kind: message.kind.clone(),
            body: String::from_utf8_lossy(&message.body).into_owned(),
            first_seen: message.headers.first_seen,
            traceparent: message.headers.traceparent.clone(),
        };
        let mut text = serde_json::to_vec(&line).map_err(io::Error::from)?;
        text.push(b'\n');
        let size = u64::try_from(text.len()).unwrap_or(u64::MAX);
        let mut state = self.lock();
        if state.bytes.saturating_add(size) > self.max_bytes {
            return Err(SpoolError::Full(self.max_bytes));
        }
        let mut file = match state.writing.take() {
            Some(file) => file,
            None => self.begin(&mut state)?,
        };
        // After a failed write the file is not used again: a half line must not get a second half.
        file.write_all(&text)?;
        file.sync_data()?;
        state.bytes += size;
        state.writing = Some(file);
        Ok(())
    }

    /// All files with their events; the one that was being written is closed. Blocks.
    pub(crate) fn take_files(&self) -> io::Result<Vec<SpoolFile>> {
        self.lock().writing = None;
        files(&self.directory)?.into_iter().map(|(_, path)| read(path)).collect()
    }

    /// Deletes a file whose events are with the broker.
    pub(crate) fn remove(&self, path: &Path) -> io::Result<()> {
        let size = fs::metadata(path)?.len();
        fs::remove_file(path)?;
        let mut state = self.lock();
        state.bytes = state.bytes.saturating_sub(size);
        Ok(())
    }

    fn begin(&self, state: &mut State) -> io::Result<File> {
        state.newest += 1;
        let path = self.directory.join(format!("{:010}.{ENDING}", state.newest));
        let file = OpenOptions::new().append(true).create_new(true).open(path)?;
        // The folder's entry for the new file must be on disk too.
        File::open(&self.directory)?.sync_all()?;
        Ok(file)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn place(root: &Path, number: u32) -> PathBuf {
    if number == 1 { root.to_owned() } else { root.join(number.to_string()) }
}

/// The spool's files, oldest first.
fn files(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
        if let Some(number) = number
            && path.extension().is_some_and(|ending| ending == ENDING)
        {
            files.push((number, path));
        }
    }
    files.sort();
    Ok(files)
}

fn read(path: PathBuf) -> io::Result<SpoolFile> {
    let text = fs::read(&path)?;
    let mut entries = Vec::new();
    for line in text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice::<Line>(line) {
            Ok(line) => entries.push(entry(line)),
            Err(error) => tracing::warn!(
                event = "spool.line_dropped", file = %path.display(), error = %error,
                "a line that was cut short by a crash; its sender was never told that it is stored",
            ),
        }
    }
    Ok(SpoolFile { path, entries })
}

fn entry(line: Line) -> (Route, Message) {
    let headers =
        Headers { first_seen: line.first_seen, traceparent: line.traceparent, ..Headers::default() };
    let message = Message { id: line.id, kind: line.kind, body: line.body.into_bytes(), headers };
    (Route { exchange: line.exchange, routing_key: line.routing_key }, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str) -> (Route, Message) {
        let headers = Headers { first_seen: Some(Timestamp::UNIX_EPOCH), ..Headers::default() };
        let message =
            Message { id: id.to_owned(), kind: "k".to_owned(), body: b"{\"a\":1}".to_vec(), headers };
        (Route { exchange: "work".to_owned(), routing_key: "queue".to_owned() }, message)
    }

    fn ids(spool: &Spool) -> Vec<String> {
        let files = spool.take_files().unwrap();
        files.iter().flat_map(|file| &file.entries).map(|(_, message)| message.id.clone()).collect()
    }

    #[test]
    fn events_survive_the_process_in_their_order_and_leave_when_removed() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), 10_000).unwrap();
        let (route, message) = event("1");
        spool.append(&route, &message).unwrap();
        assert_eq!(ids(&spool), ["1"]);
        spool.append(&route, &event("2").1).unwrap();
        drop(spool);

        let spool = Spool::open(folder.path(), 10_000).unwrap();
        spool.append(&route, &event("3").1).unwrap();
        assert_eq!(ids(&spool), ["1", "2", "3"]);
        let files = spool.take_files().unwrap();
        assert_eq!(files[0].entries[0], (route, message));
        for file in files {
            spool.remove(&file.path).unwrap();
        }
        assert_eq!((spool.bytes(), ids(&spool).len()), (0, 0));
    }

    #[test]
    fn processes_that_share_a_folder_have_a_place_each_and_inherit_from_the_dead() {
        let folder = tempfile::tempdir().unwrap();
        let (route, message) = event("1");
        let first = Spool::open(folder.path(), 10_000).unwrap();
        let second = Spool::open(folder.path(), 10_000).unwrap();
        second.append(&route, &message).unwrap();
        assert!(ids(&first).is_empty());
        assert!(first.left_behind().unwrap().is_empty(), "the second lives");

        drop(second);
        let left = first.left_behind().unwrap();
        assert_eq!(left.iter().flat_map(ids).collect::<Vec<_>>(), ["1"]);
        let third = Spool::open(folder.path(), 10_000).unwrap();
        assert!(ids(&third).is_empty(), "the place is held while it is emptied");
        for spool in &left {
            for file in spool.take_files().unwrap() {
                spool.remove(&file.path).unwrap();
            }
        }
        drop(left);
        assert!(first.left_behind().unwrap().is_empty());
    }

    #[test]
    fn a_full_spool_says_so_and_takes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (route, message) = event("1");
        let probe = Spool::open(folder.path(), 10_000).unwrap();
        probe.append(&route, &message).unwrap();
        let size = probe.bytes();

        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), 2 * size).unwrap();
        spool.append(&route, &message).unwrap();
        spool.append(&route, &message).unwrap();
        assert!(matches!(spool.append(&route, &message), Err(SpoolError::Full(_))));
        assert_eq!((spool.bytes(), ids(&spool).len()), (2 * size, 2));
    }

    #[test]
    fn a_line_cut_short_is_dropped_and_the_rest_kept() {
        let folder = tempfile::tempdir().unwrap();
        let spool = Spool::open(folder.path(), 10_000).unwrap();
        let (route, message) = event("1");
        spool.append(&route, &message).unwrap();
        let file = spool.take_files().unwrap().remove(0).path;
        let mut text = fs::read(&file).unwrap();
        text.extend_from_slice(b"{\"exchange\":\"wo");
        fs::write(&file, text).unwrap();
        assert_eq!(ids(&spool), ["1"]);
    }
}

//! The node's data directory: its paths, its lock, its modes.
//!
//! ```text
//! lightstreams.toml   configuration                  chain/      genesis.json and the chain's database
//! keystore/           Web3 v3 account keys           blocks/     the block store
//! identity.age        age identity and holder seed   vault/      content index, kept headers, nonces
//! LOCK                held while a node runs         consensus/  what the signer has signed
//! lightstreams.sock   the private API                log/        receipts
//! token               of the private API over TCP
//! ```
//!
//! The directory and everything in it belong to their owner alone (0700 and 0600). A database directory carries a
//! `FORMAT` file that names what it is, so that a directory of something else is never opened over.

use crate::error::{NodeError, Result, io_error};
use lightstreams_store::{Disk, FileDisk};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The longest path a Unix socket may have on Linux, less the closing zero.
const SOCKET_PATH_MAX: usize = 107;
/// No text file of the data directory is longer than this.
const TEXT_LEN_MAX: u64 = 1 << 20;

/// The paths of one data directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDir {
    root: PathBuf,
}

/// The exclusive right to a data directory, given back when dropped.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing it would not be enough: a child that another thread has just forked holds a copy of the descriptor, and the
        // lock with it (flock(2)), until it executes its program. If this fails, closing is all that is left.
        let _ = self.file.unlock();
    }
}

impl DataDir {
    /// Names a data directory; nothing is read or made.
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// `$LIGHTSTREAMS_DATA`, else `$XDG_DATA_HOME/lightstreams`, else `~/.local/share/lightstreams`.
    pub fn default_root() -> PathBuf {
        let set = |name| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
        set("LIGHTSTREAMS_DATA")
            .or_else(|| set("XDG_DATA_HOME").map(|p| p.join("lightstreams")))
            .or_else(|| set("HOME").map(|p| p.join(".local/share/lightstreams")))
            .unwrap_or_else(|| PathBuf::from("lightstreams-data"))
    }

    /// The directory itself.
    pub fn root(&self) -> &Path {
        &self.root
    }
    /// `lightstreams.toml`
    pub fn config(&self) -> PathBuf {
        self.root.join("lightstreams.toml")
    }
    /// `keystore/`
    pub fn keystore(&self) -> PathBuf {
        self.root.join("keystore")
    }
    /// `identity.age`
    pub fn identity(&self) -> PathBuf {
        self.root.join("identity.age")
    }
    /// `chain/`
    pub fn chain(&self) -> PathBuf {
        self.root.join("chain")
    }
    /// `chain/genesis.json`
    pub fn genesis(&self) -> PathBuf {
        self.chain().join("genesis.json")
    }
    /// `chain/db/`
    pub fn chain_db(&self) -> PathBuf {
        self.chain().join("db")
    }
    /// `blocks/`
    pub fn blocks(&self) -> PathBuf {
        self.root.join("blocks")
    }
    /// `vault/`
    pub fn vault(&self) -> PathBuf {
        self.root.join("vault")
    }
    /// `consensus/`
    pub fn consensus(&self) -> PathBuf {
        self.root.join("consensus")
    }
    /// `log/`
    pub fn log(&self) -> PathBuf {
        self.root.join("log")
    }
    /// `lightstreams.sock`
    pub fn socket(&self) -> PathBuf {
        self.root.join("lightstreams.sock")
    }
    /// `token`, the bearer token of the private API over loopback TCP.
    pub fn token(&self) -> PathBuf {
        self.root.join("token")
    }

    /// Makes the directory (0700) if it is absent.
    pub fn create(&self) -> Result<()> {
        make_private_dir(&self.root)
    }

    /// Refuses a directory that `init` has not written.
    pub fn require_initialised(&self) -> Result<()> {
        let missing = |what: &str| {
            NodeError::not_found("not_initialised", format!("{} holds no {what}", self.root.display())).hint(
                "run `lightstreams init` for a new network, `lightstreams init --genesis FILE --peer ADDR` to join one",
            )
        };
        if !self.config().is_file() {
            return Err(missing("lightstreams.toml"));
        }
        if !self.genesis().is_file() {
            return Err(missing("chain/genesis.json"));
        }
        Ok(())
    }

    /// Refuses a path too long for the private API's socket.
    pub fn check_socket_path(&self) -> Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let len = self.socket().as_os_str().as_bytes().len();
        if len > SOCKET_PATH_MAX {
            return Err(NodeError::usage(
                "data_dir_path_too_long",
                format!(
                    "a socket path may have {SOCKET_PATH_MAX} bytes, {} has {len}",
                    self.socket().display()
                ),
            )
            .hint("use a data directory with a shorter path"));
        }
        Ok(())
    }

    /// Takes the directory for this process; refused while another holds it.
    pub fn lock(&self) -> Result<Lock> {
        self.create()?;
        let path = self.root.join("LOCK");
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|e| io_error("open", &path, e))?;
        match file.try_lock() {
            Ok(()) => {
                // The number is for people only; the lock itself is the kernel's and dies with the process.
                let _ = file.set_len(0);
                let _ = writeln!(file, "{}", std::process::id());
                Ok(Lock { file })
            }
            Err(TryLockError::WouldBlock) => {
                let mut pid = String::new();
                let _ = (&mut file).take(32).read_to_string(&mut pid);
                let who = match pid.trim().parse::<u32>() {
                    Ok(pid) => format!("process {pid}"),
                    Err(_) => "another process".into(),
                };
                Err(NodeError::new(
                    "data_dir_locked",
                    format!("{who} already runs on {}", self.root.display()),
                )
                .hint("stop it first, or choose another directory with --data"))
            }
            Err(TryLockError::Error(e)) => Err(io_error("lock", &path, e)),
        }
    }
}

/// Makes a directory and its parents, durably, the last with mode 0700.
pub fn make_private_dir(path: &Path) -> Result<()> {
    if !path.is_dir() {
        let wrong = |e| io_error("create", path, e);
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = FileDisk::open(parent.unwrap_or(Path::new("."))).map_err(wrong)?;
        match fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => return parent.sync().map_err(wrong),
            Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists && path.is_dir() => {}
            Err(e) => return Err(io_error("create", path, e)),
        }
    }
    let mode = fs::metadata(path).map_err(|e| io_error("read", path, e))?.permissions().mode();
    if mode & 0o077 != 0 {
        fs::set_permissions(path, fs::Permissions::from_mode(mode & 0o700))
            .map_err(|e| io_error("restrict", path, e))?;
    }
    Ok(())
}

/// Writes a file (0600) so that after a crash either the old or the new content is there, whole.
pub fn write_private(path: &Path, content: &[u8]) -> Result<()> {
    let wrong = |e| io_error("write", path, e);
    let parent = path.parent().unwrap_or(Path::new("."));
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.new", std::process::id()));
    let beside = parent.join(name);
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        File::open(parent)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written.map_err(wrong)
}

/// Writes a file (0600) that must not be there yet; a crash leaves either no file or all of it.
pub fn write_private_new(path: &Path, content: &[u8]) -> Result<()> {
    if fs::symlink_metadata(path).is_ok() {
        return Err(NodeError::new("already_exists", format!("{} already exists", path.display()))
            .hint("nothing was overwritten; choose another directory or move the file away"));
    }
    write_private(path, content)
}

/// Reads a text file of bounded length.
pub fn read_text(path: &Path) -> Result<String> {
    read_text_bounded(path, TEXT_LEN_MAX)
}

/// Reads a text file of at most `len_max` bytes.
pub fn read_text_bounded(path: &Path, len_max: u64) -> Result<String> {
    let wrong = |e| io_error("read", path, e);
    let mut text = String::new();
    File::open(path).map_err(wrong)?.take(len_max + 1).read_to_string(&mut text).map_err(wrong)?;
    if text.len() as u64 > len_max {
        return Err(NodeError::new(
            "file_too_long",
            format!("{} is longer than {len_max} bytes", path.display()),
        ));
    }
    Ok(text)
}

/// What the database directory `path` is marked as; `None` if it is not marked, or not there.
pub fn database_mark(path: &Path) -> Result<Option<String>> {
    let mark = path.join("FORMAT");
    match fs::symlink_metadata(&mark) {
        Ok(_) => Ok(Some(read_text(&mark)?.trim().to_owned())),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io_error("read", &mark, e)),
    }
}

/// Marks the database directory `path` as `kind` (`"blocks fjall 1"`), or checks the mark it has.
///
/// A directory with other content and no mark is refused, so that a foreign database is never written into.
pub fn claim_database(path: &Path, kind: &str) -> Result<()> {
    make_private_dir(path)?;
    match database_mark(path)? {
        Some(found) if found == kind => Ok(()),
        Some(found) => Err(NodeError::new(
            "foreign_database",
            format!("{} holds \"{}\", this node wants \"{kind}\"", path.display(), short(&found)),
        )
        .hint("set `storage` and `blocks` in lightstreams.toml to what the directory holds, or use another data directory")),
        None => {
            for entry in fs::read_dir(path).map_err(|e| io_error("read", path, e))? {
                let entry = entry.map_err(|e| io_error("read", path, e))?;
                // The rest of a mark that was cut off while it was written.
                if entry.file_name().as_encoded_bytes().starts_with(b"FORMAT.") {
                    continue;
                }
                return Err(NodeError::new(
                    "foreign_database",
                    format!("{} holds files that no Lightstreams node wrote", path.display()),
                )
                .hint("choose another data directory, or move those files away"));
            }
            write_private(&path.join("FORMAT"), format!("{kind}\n").as_bytes())
        }
    }
}

fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(60).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_is_locked_once_and_belongs_to_its_owner() {
        let temp = tempfile::tempdir().unwrap();
        let dir = DataDir::new(temp.path().join("a/b"));
        let lock = dir.lock().unwrap();
        let error = dir.lock().unwrap_err();
        assert_eq!(error.code(), "data_dir_locked");
        assert!(error.message().contains(&std::process::id().to_string()), "{error}");
        assert_eq!(fs::metadata(dir.root()).unwrap().permissions().mode() & 0o777, 0o700);
        drop(lock);
        dir.lock().unwrap();
        assert_eq!(dir.require_initialised().unwrap_err().code(), "not_initialised");
    }

    #[test]
    fn a_foreign_database_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("blocks");
        claim_database(&path, "blocks fjall 1").unwrap();
        claim_database(&path, "blocks fjall 1").unwrap();
        for kind in ["blocks rocksdb 1", "blocks fjall 2"] {
            assert_eq!(claim_database(&path, kind).unwrap_err().code(), "foreign_database");
        }
        let other = temp.path().join("other");
        fs::create_dir(&other).unwrap();
        fs::write(other.join("FORMAT.77.new"), "bloc").unwrap();
        fs::write(other.join("CURRENT"), "x").unwrap();
        assert_eq!(claim_database(&other, "blocks fjall 1").unwrap_err().code(), "foreign_database");
        fs::remove_file(other.join("CURRENT")).unwrap();
        assert_eq!(database_mark(&other).unwrap(), None);
        claim_database(&other, "blocks fjall 1").unwrap();
        assert_eq!(database_mark(&other).unwrap().as_deref(), Some("blocks fjall 1"));
    }

    #[test]
    fn a_file_is_replaced_whole_or_not_at_all() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("file");
        write_private(&path, b"one").unwrap();
        write_private(&path, b"two").unwrap();
        assert_eq!(write_private_new(&path, b"three").unwrap_err().code(), "already_exists");
        assert_eq!(read_text(&path).unwrap(), "two");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 1);
        assert_eq!(read_text_bounded(&path, 2).unwrap_err().code(), "file_too_long");
        let deep = DataDir::new(temp.path().join("x".repeat(120)));
        assert_eq!(deep.check_socket_path().unwrap_err().code(), "data_dir_path_too_long");
    }
}

//! What every disk must do.

use std::io;

use crate::Disk;

/// Holds a [`Disk`] that `open` opens, each time the same empty folder at first, to its contract without power cuts.
pub fn check_disk<D: Disk>(mut open: impl FnMut() -> D) {
    let disk = open();
    assert_eq!(disk.list().unwrap(), [""; 0], "check_disk needs an empty folder");
    for name in ["", ".", "..", "a/b", "/a", "a/", "../a"] {
        assert!(disk.open(name).is_err(), "{name:?} is no plain file name");
    }
    let mut file = disk.open("a").unwrap();
    assert!(file.is_empty().unwrap());
    file.append(b"hello ").unwrap();
    file.append(b"world").unwrap();
    let mut buf = [0; 20];
    assert_eq!(file.read_at(6, &mut buf).unwrap(), 5);
    assert_eq!(&buf[..5], b"world");
    assert_eq!(file.read_at(11, &mut buf).unwrap(), 0);
    assert_eq!(file.read_at(100, &mut buf).unwrap(), 0);
    file.truncate(7).unwrap();
    file.append(b"e").unwrap();
    assert_eq!(file.len().unwrap(), 8);
    file.sync().unwrap();
    disk.open("b").unwrap().append(b"old").unwrap();
    disk.open("c").unwrap().append(b"new").unwrap();
    disk.rename("c", "b").unwrap();
    disk.open("d").unwrap();
    disk.remove("d").unwrap();
    assert!(disk.remove("d").is_err());
    assert!(disk.rename("d", "e").is_err());
    disk.sync().unwrap();
    let folders = folders_are_apart(&disk);
    drop(file);
    drop(disk);

    let disk = open();
    assert_eq!(disk.list().unwrap(), ["a", "b"]);
    assert_eq!(disk.folders().unwrap(), folders);
    let contents = |name: &str| {
        let file = disk.open(name).unwrap();
        let mut bytes = vec![0; file.len().unwrap() as usize];
        file.read_at(0, &mut bytes).unwrap();
        bytes
    };
    assert_eq!(contents("a"), b"hello we");
    assert_eq!(contents("b"), b"new");
}

/// Returns the names of the folders that it leaves, none if the disk has no folders within.
fn folders_are_apart(disk: &dyn Disk) -> Vec<String> {
    match disk.folder("g") {
        Err(e) if e.kind() == io::ErrorKind::Unsupported => return Vec::new(),
        within => drop(within.unwrap()),
    }
    for name in ["", ".", "..", "a/b", "/a", "a/", "../a"] {
        assert!(disk.folder(name).is_err(), "{name:?} is no plain file name");
    }
    assert!(disk.folder("a").is_err(), "a file is no folder");
    let within = disk.folder("f").unwrap();
    assert_eq!(within.list().unwrap(), [""; 0]);
    within.open("a").unwrap().append(b"inside").unwrap();
    within.open("c").unwrap();
    within.folder("f").unwrap().open("x").unwrap();
    within.rename("c", "d").unwrap();
    within.sync().unwrap();
    assert_eq!(within.list().unwrap(), ["a", "d"]);
    assert_eq!(within.folders().unwrap(), ["f"]);
    assert_eq!(disk.list().unwrap(), ["a", "b"]);
    assert_eq!(disk.read("a").unwrap().len().unwrap(), 8);
    assert_eq!(disk.folder("f").unwrap().read("a").unwrap().len().unwrap(), 6);
    disk.sync().unwrap();
    assert_eq!(disk.folders().unwrap(), ["f", "g"]);
    disk.folders().unwrap()
}

//! A start makes no file: it needs no room anywhere.

use std::ffi::CString;
use std::path::{Path, PathBuf};

use offspring::ProcessBuilder;

use super::stage::answer;

/// In a mount namespace of its own. The error is the reason why there is none.
fn own_mounts() -> Result<(), String> {
    let refused = |what: &str| Err(format!("{what}: {}", std::io::Error::last_os_error()));
    // SAFETY: concerns this thread and the children that it starts from now on.
    if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
        return refused("no mount namespace");
    }
    let flags = libc::MS_REC | libc::MS_PRIVATE;
    // SAFETY: two texts that end with a NUL; null is for what this kind of mount does not need.
    match unsafe {
        libc::mount(c"none".as_ptr(), c"/".as_ptr(), std::ptr::null(), flags, std::ptr::null())
    } {
        0 => Ok(()),
        _ => refused("no private mounts"),
    }
}

/// Room for this many files, its own root included, and nothing else.
fn cover(place: &Path, files: u32) {
    let (place, options) =
        (c_text(place), CString::new(format!("size=1m,nr_inodes={files}")).unwrap());
    let kind = c"tmpfs".as_ptr();
    // SAFETY: texts that end with a NUL.
    let outcome = unsafe { libc::mount(kind, place.as_ptr(), kind, 0, options.as_ptr().cast()) };
    assert_eq!(outcome, 0, "{}", std::io::Error::last_os_error());
}

fn uncover(place: &Path) {
    // SAFETY: a text that ends with a NUL.
    let outcome = unsafe { libc::umount2(c_text(place).as_ptr(), libc::MNT_DETACH) };
    assert_eq!(outcome, 0);
}

fn c_text(path: &Path) -> CString {
    CString::new(path.to_str().unwrap()).unwrap()
}

/// The results of starts with room for 1, 2, .. files, and the files that they leave.
#[offspring::worker]
fn start_in_little_room(places: Vec<PathBuf>) -> Result<Vec<(String, usize)>, String> {
    answer::spawn().unwrap().join().unwrap();
    own_mounts()?;
    let start = |files| {
        places.iter().for_each(|place| cover(place, files));
        let outcome = match answer::spawn() {
            Ok(child) => format!("{:?}", child.join()),
            Err(error) => format!("{error:?}"),
        };
        let left = places.iter().map(|place| std::fs::read_dir(place).unwrap().count()).sum();
        places.iter().rev().for_each(|place| uncover(place));
        (outcome, left)
    };
    Ok((1..=6).map(start).collect())
}

/// Gives the outcomes, unless this system allows no such scene.
fn outcomes(places: &[&Path], directory: &Path) -> Option<Vec<String>> {
    let places = places.iter().map(|place| place.to_path_buf()).collect();
    let stage =
        ProcessBuilder::new().env("TMPDIR", directory).spawn(start_in_little_room::new(places));
    match stage.unwrap().join().unwrap() {
        Ok(outcomes) => {
            assert!(outcomes.iter().all(|(_, left)| *left == 0), "{outcomes:?}");
            Some(outcomes.into_iter().map(|(outcome, _)| outcome).collect())
        }
        Err(reason) => {
            println!("skipped: {reason}");
            None
        }
    }
}

#[offspring::test(timeout = "20s")]
fn a_full_tmpdir_does_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    if let Some(outcomes) = outcomes(&[directory.path()], directory.path()) {
        assert_eq!(outcomes, ["Ok(42)"; 6]);
    }
}

#[offspring::test(timeout = "20s")]
fn without_any_room_processes_start_all_the_same() {
    let places = ["/tmp", "/dev/shm", "/var/tmp"].map(Path::new);
    if let Some(outcomes) = outcomes(&places, Path::new("/tmp")) {
        assert_eq!(outcomes, ["Ok(42)"; 6]);
    }
}

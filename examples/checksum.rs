//! CRC-32 checksums of all files in a folder, with one worker process per core and a progress bar.
//!
//! `cargo run --release --example checksum -- FOLDER` prints `checksum  path`, ordered by path.

use std::error::Error;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use indicatif::ProgressIterator;
use offspring::Pool;

#[offspring::worker]
fn checksum(path: OsString) -> Result<u32, String> {
    crc32(Path::new(&path)).map_err(|error| error.to_string())
}

fn crc32(path: &Path) -> io::Result<u32> {
    let table: [u32; 256] = std::array::from_fn(|byte| {
        (0..8).fold(byte as u32, |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1)))
    });
    let mut file = File::open(path)?;
    let (mut buffer, mut crc) = (vec![0; 1 << 16], u32::MAX);
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(!crc),
            length => {
                crc = buffer[..length]
                    .iter()
                    .fold(crc, |crc, byte| (crc >> 8) ^ table[usize::from(crc as u8 ^ byte)])
            }
        }
    }
}

fn files(folder: PathBuf) -> io::Result<Vec<PathBuf>> {
    let (mut folders, mut files) = (vec![folder], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            match entry.file_type()? {
                kind if kind.is_dir() => folders.push(entry.path()),
                kind if kind.is_file() => files.push(entry.path()),
                _ => {}
            }
        }
    }
    files.sort_unstable();
    Ok(files)
}

#[offspring::main]
fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("."), PathBuf::from);
    let files = files(folder)?;
    let pool = Pool::builder().name("checksum").build()?;
    let checksums = pool.map(&files, |path| checksum::new(path.as_os_str().to_owned()));
    let mut failed = 0;
    // `Map` is an exact-size iterator, so the bar knows its length. Without a terminal it is
    // hidden.
    for (path, checksum) in files.iter().zip(checksums.progress()) {
        match checksum.map_err(|error| error.to_string()).and_then(|checksum| checksum) {
            Ok(checksum) => println!("{checksum:08x}  {}", path.display()),
            Err(error) => {
                failed += 1;
                eprintln!("checksum: {}: {error}", path.display());
            }
        }
    }
    if failed > 0 { Err(format!("{failed} files could not be read").into()) } else { Ok(()) }
}

//! Attacks on everything that a process has been given: its descriptors and its shared memory,
//! whatever they are for.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::thread;
use std::time::Duration;

use crate::ipc::fuzz::Random;
use crate::ipc::hostile::RawPacket;
use crate::ipc::ring::RING_BYTES;
use crate::sys::{self, RawSocket};

const PAGE: usize = 4096;
/// Whether descriptors are received, since Linux 6.16.
const SO_PASSRIGHTS: libc::c_int = 83;

/// The attack that a saboteur makes most of the time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mood {
    /// None: only the worker's messages attack.
    Nothing,
    /// Writes words in shared memory.
    Words,
    /// Writes the heads, tails and first entries of rings.
    Rings,
    /// Sets flags that ask for doorbells, again and again.
    Sleeps,
    /// Cuts and extends memory.
    Cuts,
    /// Punches holes into memory, which read as zeroes.
    Holes,
    /// Sets options of sockets.
    Options,
    /// Sends garbage.
    Garbage,
    /// Takes packets out of sockets whose other user is the victim.
    Steals,
    /// Fills sockets.
    Floods,
    Everything,
}

impl Mood {
    const ALL: [Mood; 11] = [
        Mood::Nothing,
        Mood::Words,
        Mood::Rings,
        Mood::Sleeps,
        Mood::Cuts,
        Mood::Holes,
        Mood::Options,
        Mood::Garbage,
        Mood::Steals,
        Mood::Floods,
        Mood::Everything,
    ];

    pub(super) fn of(random: &mut Random) -> Mood {
        *random.choose(&Mood::ALL)
    }
}

/// A part of this process's shared memory.
struct Mapped {
    start: u64,
    length: u64,
}

/// Attacks until the process ends.
pub(super) fn attack(mood: Mood, mut random: Random) {
    let memory = OpenOptions::new().read(true).write(true).open("/proc/self/mem").unwrap();
    loop {
        let now = match mood {
            Mood::Everything => Mood::of(&mut random),
            mood => mood,
        };
        act(now, &memory, &mut random);
        if random.one_in(16) {
            thread::sleep(Duration::from_micros(random.below(400)));
        }
    }
}

fn act(mood: Mood, memory: &File, random: &mut Random) {
    match mood {
        Mood::Words => {
            let Some(mapped) = mapped(random) else { return };
            let at = match random.below(3) {
                0 => random.below(mapped.length.min(4096) / 8),
                1 => mapped.length / 8 - 1 - random.below(mapped.length.min(4096) / 8),
                _ => random.below(mapped.length / 8),
            };
            write(memory, mapped.start + at * 8, random);
        }
        Mood::Rings => {
            let Some(mapped) = mapped(random) else { return };
            let ring = RING_BYTES as u64 * random.below(2);
            let at = match random.below(8) {
                0..3 => ring,
                3..6 => ring + 128,
                6 => ring + 256 + 8 * random.below(32),
                _ => 2 * RING_BYTES as u64 + 128 * random.below(16),
            };
            if at + 8 <= mapped.length {
                write(memory, mapped.start + at, random);
            }
        }
        Mood::Sleeps => {
            let Some(mapped) = mapped(random) else { return };
            for _ in 0..20 {
                let line = RING_BYTES as u64 * random.below(3) + 128 * random.below(4);
                if line >= 256 || mapped.length < RING_BYTES as u64 {
                    let at = line % mapped.length;
                    let _ = memory.write_all_at(&1u64.to_ne_bytes(), mapped.start + at);
                }
            }
        }
        Mood::Cuts => {
            let Some(path) = descriptors("memfd:").choose(random) else { return };
            if let Ok(file) = OpenOptions::new().read(true).write(true).open(path) {
                let length = *random.choose(&[0, 0, 1, 4096, 1 << 20, 1 << 46]);
                let _ = file.set_len(length);
            }
        }
        Mood::Holes => {
            let Some(path) = descriptors("memfd:").choose(random) else { return };
            let Ok(file) = OpenOptions::new().read(true).write(true).open(path) else { return };
            let pages = file.metadata().map_or(0, |facts| facts.len() as usize / PAGE) + 1;
            // The first page, which often holds positions and flags; some others; or all.
            let (at, count) = match random.below(4) {
                0 => (0, 1),
                1 => (0, pages),
                _ => (random.below(pages as u64) as usize, 1 + random.below(4) as usize),
            };
            let _ = sys::deallocate(file.as_fd(), at * PAGE, count * PAGE);
        }
        Mood::Options => with_socket(random, |socket, random| {
            let options = [
                libc::SO_PASSCRED,
                libc::SO_PASSSEC,
                sys::SO_PASSPIDFD,
                SO_PASSRIGHTS,
                libc::SO_PEEK_OFF,
                libc::SO_PEEK_OFF,
                libc::SO_SNDBUF,
                libc::SO_RCVLOWAT,
            ];
            let value = *random.choose(&[0, 1, 1, 2, 100, 1 << 20]);
            sys::set_option(socket.as_fd(), *random.choose(&options), value);
        }),
        Mood::Garbage => with_socket(random, |socket, random| {
            let _ = RawPacket::of_garbage(random).send(socket.as_fd());
        }),
        Mood::Steals => with_socket(random, |socket, _| {
            for _ in 0..100 {
                let _ = RawPacket::take(socket.as_fd());
            }
        }),
        Mood::Floods => with_socket(random, |socket, random| {
            let packet = RawPacket::of_garbage(random);
            for _ in 0..2000 {
                if packet.send(socket.as_fd()).is_err() {
                    return;
                }
            }
        }),
        Mood::Nothing | Mood::Everything => thread::sleep(Duration::from_millis(1)),
    }
}

/// Writes a word: either one that is likely to matter, or the old one with a small change.
fn write(memory: &File, address: u64, random: &mut Random) {
    let mut old = [0; 8];
    if memory.read_exact_at(&mut old, address).is_err() {
        return;
    }
    let old = u64::from_ne_bytes(old);
    let word = match random.below(8) {
        0 => random.number(1 << 17),
        1 => old.wrapping_add(1),
        2 => old.wrapping_add(8),
        3 => old.wrapping_sub(8),
        4 => old ^ (1 << random.below(64)),
        5 => old.wrapping_add(random.below(1 << 17) * 8),
        6 => random.below(3),
        _ => old.wrapping_add(1 << 48),
    };
    let _ = memory.write_all_at(&word.to_ne_bytes(), address);
}

fn mapped(random: &mut Random) -> Option<Mapped> {
    let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
    let shared = |line: &&str| line.contains("/memfd:") && line.contains("rw-s");
    let lines: Vec<&str> = maps.lines().filter(shared).collect();
    if lines.is_empty() {
        return None;
    }
    let (start, end) = random.choose(&lines).split_once(' ')?.0.split_once('-')?;
    let start = u64::from_str_radix(start, 16).ok()?;
    Some(Mapped { start, length: u64::from_str_radix(end, 16).ok()? - start })
}

struct Descriptors(Vec<std::path::PathBuf>);

impl Descriptors {
    fn choose(mut self, random: &mut Random) -> Option<std::path::PathBuf> {
        let count = self.0.len() as u64;
        (count > 0).then(|| self.0.swap_remove(random.below(count) as usize))
    }
}

/// The descriptors of this process whose names contain a text.
fn descriptors(name: &str) -> Descriptors {
    let all = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let paths = all.map(|entry| entry.path());
    let named = |path: &std::path::PathBuf| {
        fs::read_link(path).is_ok_and(|link| link.to_string_lossy().contains(name))
    };
    Descriptors(paths.filter(named).collect())
}

fn with_socket(random: &mut Random, act: impl FnOnce(RawSocket, &mut Random)) {
    let Some(path) = descriptors("socket:").choose(random) else { return };
    let number = path.file_name().and_then(|name| name.to_str()?.parse().ok());
    if let Some(socket) = number.and_then(RawSocket::new) {
        act(socket, random);
    }
}

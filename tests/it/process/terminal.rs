//! Ctrl-C at a real terminal, which sends SIGINT to every process of the foreground group.

use std::ffi::CStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use offspring::{Process, ProcessBuilder};

use super::stage::{FOREVER, binary, inner_program, is_inner};
use crate::support::{eventually, is_running};

/// A terminal with a program in its foreground.
struct Terminal {
    keys: File,
    screen: BufReader<File>,
    program: Child,
}

impl Terminal {
    fn run(test: &str) -> Terminal {
        // Opened by name, so that no child of another test gets them.
        let master = File::options().read(true).write(true).open("/dev/ptmx").unwrap();
        let mut name = [0; 64];
        // SAFETY: an open descriptor, and a place of the length that is given.
        unsafe {
            assert_eq!(libc::unlockpt(master.as_raw_fd()), 0);
            assert_eq!(
                libc::ptsname_r(master.as_raw_fd(), name.as_mut_ptr().cast(), name.len()),
                0
            );
        }
        let name = CStr::from_bytes_until_nul(&name).unwrap().to_str().unwrap();
        let mut options = File::options();
        let slave = options.read(true).write(true).custom_flags(libc::O_NOCTTY).open(name).unwrap();
        do_not_echo(&slave);
        let mut command = inner_program(&binary(), test);
        let end = || slave.try_clone().unwrap();
        command.stdin(end()).stdout(end()).stderr(end());
        let program = lead_session(&mut command).spawn().unwrap();
        Terminal { keys: master.try_clone().unwrap(), screen: BufReader::new(master), program }
    }

    /// The next line that begins with this word, without it.
    fn line(&mut self, word: &str) -> String {
        loop {
            let mut line = String::new();
            assert_ne!(self.screen.read_line(&mut line).unwrap(), 0);
            if let Some(rest) = line.trim_end().strip_prefix(word) {
                return rest.trim().to_owned();
            }
        }
    }

    fn pids(&mut self, count: usize) -> Vec<u32> {
        (0..count).map(|_| self.line("pid").parse().unwrap()).collect()
    }

    fn interrupt(&mut self) {
        self.keys.write_all(b"\x03").unwrap();
    }

    /// Returns the text that appears until no process has the terminal any more, and the program's
    /// end.
    fn finish(mut self) -> (String, ExitStatus) {
        let mut text = String::new();
        // The system's word for the end is an error.
        while self.screen.read_line(&mut text).is_ok_and(|count| count > 0) {}
        (text, self.program.wait().unwrap())
    }
}

/// A terminal shows `^C` itself, or does not: as the program's end comes after it or before.
fn do_not_echo(terminal: &File) {
    // SAFETY: an open descriptor, and all of the settings are written before they are used.
    unsafe {
        let mut settings = std::mem::zeroed();
        assert_eq!(libc::tcgetattr(terminal.as_raw_fd(), &mut settings), 0);
        settings.c_lflag &= !libc::ECHO;
        assert_eq!(libc::tcsetattr(terminal.as_raw_fd(), libc::TCSANOW, &settings), 0);
    }
}

/// Makes the program the leader of a session of its own, whose terminal is its stdin.
fn lead_session(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec three system calls are made, and nothing else.
    unsafe {
        command.pre_exec(|| {
            libc::setsid();
            // A shell starts what is in its background with Ctrl-C ignored, and these tests may be.
            libc::signal(libc::SIGINT, libc::SIG_DFL);
            libc::ioctl(0, libc::TIOCSCTTY, 0);
            Ok(())
        })
    }
}

/// Prints its pid, starts a child that does the same, and another program if it is asked to.
#[offspring::worker]
fn stay(with_program: bool, with_child: bool) {
    println!("pid {}", std::process::id());
    let _child = with_child.then(|| stay::spawn(false, false).unwrap());
    let program = with_program.then(|| Command::new("sleep").arg("1000").spawn().unwrap());
    if let Some(mut program) = program {
        println!("pid {}", program.id());
        let status = program.wait().unwrap();
        println!("program {:?}", status.signal());
    }
    std::thread::sleep(FOREVER);
}

#[offspring::test]
#[ignore = "run by `ctrl_c_is_one_clean_end_of_the_whole_family`"]
fn inner_family() {
    if is_inner() {
        // Behind what the harness has written without an end of line.
        println!();
        let _children: Vec<Process<()>> =
            (0..4).map(|_| stay::spawn(false, true).unwrap()).collect();
        std::thread::sleep(FOREVER);
    }
}

#[offspring::test(timeout = "60s")]
fn ctrl_c_is_one_clean_end_of_the_whole_family() {
    let mut terminal = Terminal::run("process::terminal::inner_family");
    let pids = terminal.pids(8);
    terminal.interrupt();
    let (text, status) = terminal.finish();
    assert_eq!((text.as_str(), status.signal()), ("", Some(libc::SIGINT)));
    eventually("all are gone", || !pids.iter().any(|&pid| is_running(pid)));
}

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_: i32) {
    INTERRUPTED.store(true, Ordering::SeqCst);
}

fn handle_interrupts() {
    // SAFETY: the handler only sets an atomic.
    unsafe { libc::signal(libc::SIGINT, note as extern "C" fn(i32) as usize) };
}

fn wait_for_interrupt() {
    eventually("Ctrl-C is noticed", || INTERRUPTED.load(Ordering::SeqCst));
}

/// It decides what Ctrl-C means: its children continue until it asks them to stop.
#[offspring::test]
#[ignore = "run by `the_parent_decides_what_ctrl_c_means`"]
fn inner_decider() {
    if is_inner() {
        println!();
        handle_interrupts();
        let stay = stay::spawn(true, false).unwrap();
        let own = ProcessBuilder::new().spawn(handle_itself::new()).unwrap();
        let asked = ProcessBuilder::new().spawn(until_stop::new()).unwrap();
        wait_for_interrupt();
        assert_eq!(own.join().unwrap(), "handled");
        // Neither a call that sleeps nor a process that waits has seen anything.
        assert!(
            stay.is_alive()
                && asked.join_timeout(Duration::from_millis(200)).unwrap_err().is_timeout()
        );
        println!("deciding");
        asked.request_stop(FOREVER);
        assert_eq!(asked.join().unwrap(), 5);
        stay.kill();
        stay.join().unwrap_err();
        println!("decided");
    }
}

#[offspring::worker]
fn until_stop() -> u32 {
    println!("pid {}", std::process::id());
    offspring::current().wait_stopping();
    5
}

/// A worker that wants Ctrl-C has a handler of its own.
#[offspring::worker]
fn handle_itself() -> String {
    handle_interrupts();
    println!("pid {}", std::process::id());
    wait_for_interrupt();
    "handled".to_owned()
}

#[offspring::test(timeout = "20s")]
fn the_parent_decides_what_ctrl_c_means() {
    let mut terminal = Terminal::run("process::terminal::inner_decider");
    let pids = terminal.pids(4);
    terminal.interrupt();
    // Another program ends of it, as it would anywhere.
    let program = format!("program {:?}", Some(libc::SIGINT));
    assert_eq!(terminal.line("").replace("\r\n", ""), program);
    terminal.line("deciding");
    terminal.line("decided");
    let (_, status) = terminal.finish();
    assert!(status.success(), "{status:?}");
    assert!(!pids.iter().any(|&pid| is_running(pid)));
}

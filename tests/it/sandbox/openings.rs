//! What a sandboxed worker may do by name.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;

use offspring::process::Sandbox;
use offspring::unix::Resource;

use super::{Outcome, caged_in, of_call, outcome};

fn refused<T: std::fmt::Debug>(result: Result<T, i32>) {
    match result {
        Err(libc::EPERM | libc::EACCES) => {}
        other => panic!("it was not refused: {other:?}"),
    }
}

#[offspring::worker]
fn read(path: PathBuf) -> Result<String, i32> {
    fs::read_to_string(path).map_err(|error| error.raw_os_error().unwrap_or(0))
}

#[offspring::worker]
fn list(path: PathBuf) -> Result<usize, i32> {
    fs::read_dir(path).map(Iterator::count).map_err(|error| error.raw_os_error().unwrap_or(0))
}

#[offspring::worker]
fn write(path: PathBuf, text: String) -> Outcome {
    outcome(fs::write(path, text))
}

#[offspring::test(timeout = "60s")]
fn files_are_read_below_the_paths_that_were_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir(path("open")).unwrap();
    for name in ["open/a", "b", "c"] {
        fs::write(path(name), name).unwrap();
    }
    std::os::unix::fs::symlink(path("c"), path("open/way_out")).unwrap();
    let sandbox = || Sandbox::fields_only().read(path("open")).read(path("b"));
    let read =
        |name: &str| caged_in(sandbox()).spawn(read::new(path(name))).unwrap().join().unwrap();
    assert_eq!(read("open/a").unwrap(), "open/a");
    assert_eq!(read("b").unwrap(), "b");
    refused(read("c"));
    refused(read("open/../c"));
    refused(read("open/way_out"));
    refused(read("/proc/self/maps"));
    let list =
        |name: &str| caged_in(sandbox()).spawn(list::new(path(name))).unwrap().join().unwrap();
    assert_eq!(list("open").unwrap(), 2);
    refused(list("."));
    let writer = caged_in(sandbox()).spawn(write::new(path("open/a"), "x".to_owned())).unwrap();
    refused(writer.join().unwrap());
}

#[offspring::worker]
fn change(directory: PathBuf) -> Outcome {
    outcome((|| {
        fs::write(directory.join("new"), "text")?;
        fs::create_dir(directory.join("inner"))?;
        fs::rename(directory.join("new"), directory.join("inner/old"))?;
        File::options().write(true).open(directory.join("inner/old"))?.set_len(2)?;
        fs::write(directory.join("gone"), "")?;
        fs::remove_file(directory.join("gone"))
    })())
}

/// What Landlock does not decide stays forbidden.
#[offspring::worker]
fn change_what_landlock_does_not_see(file: PathBuf) -> Vec<Outcome> {
    use std::os::unix::fs::PermissionsExt;
    let path = std::ffi::CString::new(file.to_str().unwrap()).unwrap();
    // SAFETY: paths that end in a zero; numbers.
    unsafe {
        vec![
            outcome(fs::set_permissions(&file, fs::Permissions::from_mode(0o777))),
            of_call(libc::truncate(path.as_ptr(), 0).into()),
            of_call(libc::utimensat(libc::AT_FDCWD, path.as_ptr(), std::ptr::null(), 0).into()),
            of_call(libc::chown(path.as_ptr(), 0, 0).into()),
        ]
    }
}

#[offspring::test(timeout = "60s")]
fn files_are_changed_below_the_paths_that_were_named() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    fs::create_dir(path("open")).unwrap();
    fs::write(path("closed"), "text").unwrap();
    let sandbox = || Sandbox::fields_only().write(path("open"));
    caged_in(sandbox()).spawn(change::new(path("open"))).unwrap().join().unwrap().unwrap();
    assert_eq!(fs::read(path("open/inner/old")).unwrap(), b"te");
    // To write is not to read.
    refused(caged_in(sandbox()).spawn(read::new(path("open/inner/old"))).unwrap().join().unwrap());
    let writer = caged_in(sandbox()).spawn(write::new(path("closed"), String::new())).unwrap();
    refused(writer.join().unwrap());
    let hidden = change_what_landlock_does_not_see::new(path("open/inner/old"));
    for outcome in caged_in(sandbox()).spawn(hidden).unwrap().join().unwrap() {
        refused(outcome);
    }
    assert_eq!(fs::read(path("closed")).unwrap(), b"text");
}

#[offspring::worker]
fn echo(address: SocketAddr) -> Result<String, i32> {
    let connect = || {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"hello")?;
        stream.shutdown(std::net::Shutdown::Write)?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    };
    connect().map_err(|error: std::io::Error| error.raw_os_error().unwrap_or(0))
}

/// Ways around the rule for ports: other protocols, a send that connects, a server.
#[offspring::worker]
fn go_around(port: u16) -> Vec<(String, Outcome)> {
    const MSG_FASTOPEN: libc::c_int = 0x2000_0000;
    let socket = |kind, protocol| {
        // SAFETY: takes numbers.
        of_call(unsafe { libc::socket(libc::AF_INET, kind, protocol) }.into())
    };
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as _,
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) },
        sin_zero: [0; 8],
    };
    let length = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    // SAFETY: an address of this length; a socket of this process.
    let fast = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_STREAM, 0);
        let address = (&raw const address).cast();
        of_call(libc::sendto(fd, c"x".as_ptr().cast(), 1, MSG_FASTOPEN, address, length) as _)
    };
    [
        ("datagrams", socket(libc::SOCK_DGRAM, 0)),
        ("MPTCP", socket(libc::SOCK_STREAM, 262)),
        ("SCTP", socket(libc::SOCK_STREAM, 132)),
        ("raw", socket(libc::SOCK_RAW, 1)),
        ("fast open", fast),
        ("a server", outcome(TcpListener::bind("127.0.0.1:0"))),
        ("a path", outcome(std::os::unix::net::UnixStream::connect("/nowhere"))),
        ("a file", outcome(File::open("/etc/passwd"))),
    ]
    .map(|(way, outcome)| (way.to_owned(), outcome))
    .to_vec()
}

#[offspring::test(timeout = "60s")]
fn a_connection_is_made_to_the_port_that_was_named() {
    let (open, closed) =
        (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
    let (open_at, closed_at) = (open.local_addr().unwrap(), closed.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in open.incoming().flatten() {
            let mut stream = stream;
            let mut text = Vec::new();
            stream.read_to_end(&mut text).unwrap();
            stream.write_all(&text).unwrap();
        }
    });
    let sandbox = || Sandbox::fields_only().connect_tcp(open_at.port());
    let echo = |address| caged_in(sandbox()).spawn(echo::new(address)).unwrap().join().unwrap();
    assert_eq!(echo(open_at).unwrap(), "hello");
    refused(echo(closed_at));
    let ways = go_around::new(closed_at.port());
    for (way, outcome) in caged_in(sandbox()).spawn(ways).unwrap().join().unwrap() {
        assert!(matches!(outcome, Err(libc::EPERM | libc::EACCES)), "{way}: {outcome:?}");
    }
}

/// Runs `cat` on a file.
#[offspring::worker]
fn cat(program: PathBuf, file: PathBuf) -> Result<(String, String), i32> {
    let output = Command::new(program).arg(file).output();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    output
        .map(|output| (text(output.stdout), text(output.stderr)))
        .map_err(|error| error.raw_os_error().unwrap_or(0))
}

#[offspring::test(timeout = "60s")]
fn a_program_is_executed_in_the_same_sandbox() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "text").unwrap();
    // Where distributions keep programs, their libraries, and what loads them.
    let base = || {
        let paths = ["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/etc/ld.so.cache"];
        paths.into_iter().filter(|path| fs::exists(path).unwrap())
    };
    let libraries = || base().fold(Sandbox::fields_only(), Sandbox::execute);
    let cat_of = |sandbox: Sandbox| {
        let worker = cat::new(PathBuf::from("/bin/cat"), file.clone());
        caged_in(sandbox).spawn(worker).unwrap().join().unwrap()
    };
    let with_file = libraries().execute("/bin/cat").read(&file);
    assert_eq!(cat_of(with_file).unwrap(), ("text".to_owned(), String::new()));
    let (stdout, stderr) = cat_of(libraries().execute("/bin/cat")).unwrap();
    assert!(stdout.is_empty() && stderr.contains("ermission denied"), "{stdout} {stderr}");
    refused(cat_of(libraries().execute("/bin/true").read(&file)));
}

#[offspring::worker]
fn networks() -> (String, Outcome) {
    let own = fs::read_link("/proc/thread-self/ns/net").unwrap();
    (own.display().to_string(), outcome(fs::read("/sys/class/net/eth0/address")))
}

#[offspring::test(timeout = "60s")]
fn a_network_namespace_is_another_network() {
    let sandbox = Sandbox::fields_only().network_namespace().read("/proc").best_effort();
    let worker = caged_in(sandbox).spawn(networks::new()).unwrap();
    let ours = fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    let missing: Vec<_> =
        worker.sandbox().unwrap().missing().map(|(_, why)| why.to_owned()).collect();
    let (theirs, _) = worker.join().unwrap();
    // The tests of a user who is not root run beside the harness's main thread.
    assert_eq!(theirs == ours, !missing.is_empty(), "{missing:?}");
    // SAFETY: takes nothing.
    if unsafe { libc::geteuid() } == 0 {
        assert_eq!(missing, [""; 0]);
    }
}

#[offspring::worker]
fn fill(bytes: usize) -> bool {
    let mut memory: Vec<u8> = Vec::new();
    memory.try_reserve_exact(bytes).is_ok()
}

#[offspring::test(timeout = "60s")]
fn a_limit_holds_and_cannot_be_raised() {
    let limited = || Sandbox::fields_only().limit(Resource::AddressSpace, 2 << 30);
    let fill = |bytes| caged_in(limited()).spawn(fill::new(bytes)).unwrap().join().unwrap();
    assert!(fill(16 << 20));
    assert!(!fill(3 << 30));
    let worker = caged_in(limited()).spawn(raise::new()).unwrap();
    refused(worker.join().unwrap());
}

#[offspring::worker]
fn raise() -> Outcome {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: the kernel reads one limit.
    of_call(unsafe { libc::setrlimit(libc::RLIMIT_AS, &limit) }.into())
}

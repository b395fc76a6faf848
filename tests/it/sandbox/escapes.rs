//! Each attempt succeeds without the sandbox, and fails in it.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixListener;
use std::process::{Child, Command};

use offspring::ProcessBuilder;
use offspring::shared::SharedBytes;

use super::attempts::{ATTEMPTS, Target, write_shared_bytes};
use super::{Outcome, caged};

#[offspring::worker]
pub(super) fn idle() {}

/// Makes one attempt.
#[offspring::worker]
fn attempt(index: usize, target: Target) -> Outcome {
    (ATTEMPTS[index].run)(&target)
}

#[offspring::worker]
fn attempt_to_write(target: Target) -> Outcome {
    write_shared_bytes(&target)
}

/// What there is to attack, as long as it is not dropped.
struct Scene {
    target: Target,
    victim: Child,
    directory: tempfile::TempDir,
    _ports: (TcpListener, UnixListener),
    _number: Box<u64>,
}

impl Scene {
    fn new() -> Scene {
        let directory = tempfile::tempdir().unwrap();
        let victim = Command::new("sleep").arg("1000").spawn().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let socket = directory.path().join("socket");
        let number = Box::new(0_u64);
        let target = Target {
            parent: std::process::id() as i32,
            victim: victim.id() as i32,
            address: std::ptr::from_ref(&*number).addr() as u64,
            port: listener.local_addr().unwrap().port(),
            socket: socket.to_str().unwrap().to_owned(),
            directory: directory.path().to_str().unwrap().to_owned(),
            program: fs::read("/bin/true").unwrap(),
            bytes: SharedBytes::copy_from(&[7; 4096]).unwrap(),
        };
        let _ports = (listener, UnixListener::bind(socket).unwrap());
        let scene = Scene { target, victim, directory, _ports, _number: number };
        scene.tidy();
        scene
    }

    /// Undoes what an attempt did to the directory.
    fn tidy(&self) {
        let path = self.directory.path();
        for made in ["new", "link"] {
            let _ = fs::remove_file(path.join(made));
        }
        let _ = fs::remove_dir(path.join("made"));
        for file in ["file", "other"] {
            fs::write(path.join(file), "text").unwrap();
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        self.victim.kill().unwrap();
        self.victim.wait().unwrap();
    }
}

#[offspring::test(timeout = "240s")]
fn what_every_worker_can_do_a_sandboxed_one_cannot() {
    let scene = Scene::new();
    let mut wrong = Vec::new();
    for (index, attempt) in ATTEMPTS.iter().enumerate() {
        let worker = || attempt::new(index, scene.target.clone());
        let outside = ProcessBuilder::new().spawn(worker()).unwrap().join();
        scene.tidy();
        let inside = caged().spawn(worker()).unwrap().join();
        match &outside {
            Ok(Ok(())) => {}
            Ok(Err(error)) if attempt.elsewhere.contains(error) => {
                println!("{}: this system refuses it to every process ({error})", attempt.name);
            }
            other => wrong.push(format!("{} without a sandbox: {other:?}", attempt.name)),
        }
        match &inside {
            Ok(Err(libc::EPERM | libc::EACCES)) => {}
            other => wrong.push(format!("{} in a sandbox: {other:?}", attempt.name)),
        }
        scene.tidy();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(ATTEMPTS.len() > 40);
}

/// Not even without a sandbox, since it is sealed.
#[offspring::test(timeout = "30s")]
fn shared_bytes_cannot_be_written() {
    let scene = Scene::new();
    for builder in [ProcessBuilder::new(), caged()] {
        // A page of a private mapping becomes writable; what the parent reads does not change.
        let _ = builder.spawn(attempt_to_write::new(scene.target.clone())).unwrap().join().unwrap();
        assert!(scene.target.bytes.iter().all(|&byte| byte == 7));
    }
}

//! User, groups, session, limits, nice value, mask and hooks of a child.

use std::io;

use offspring::unix::{ProcessBuilderExt, Resource, UNLIMITED};
use offspring::{ExitReason, ProcessBuilder, SpawnError, Stdio};
use serde::{Deserialize, Serialize};

use super::stage::{Census, answer};

const NOBODY: u32 = 65_534;

/// The ids of a process.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Who {
    /// Real, effective, saved, of files.
    uids: String,
    gids: String,
    groups: String,
    umask: String,
    leads_group: bool,
    leads_session: bool,
    nice: i32,
}

impl Who {
    fn am_i() -> Who {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.trim().replace('\t', " ")
        };
        // SAFETY: no pointers are involved.
        let (pid, group, session, nice) = unsafe {
            (
                libc::getpid(),
                libc::getpgid(0),
                libc::getsid(0),
                libc::getpriority(libc::PRIO_PROCESS, 0),
            )
        };
        Who {
            uids: field("Uid:"),
            gids: field("Gid:"),
            groups: field("Groups:"),
            umask: field("Umask:"),
            leads_group: pid == group,
            leads_session: pid == session,
            nice,
        }
    }
}

#[offspring::worker]
fn who() -> Who {
    Who::am_i()
}

/// With a child of its own.
#[offspring::worker]
fn who_and_whose() -> (Who, Who) {
    (Who::am_i(), who::spawn().unwrap().join().unwrap())
}

/// Tests of other users need the rights of root.
fn is_root() -> bool {
    // SAFETY: no pointers are involved.
    let is_root = unsafe { libc::geteuid() } == 0;
    if !is_root {
        eprintln!("skipped: only root can change its user");
    }
    is_root
}

#[offspring::test(timeout = "20s")]
fn a_child_of_another_user_is_that_user_and_has_children() {
    if !is_root() {
        return;
    }
    let builder = ProcessBuilder::new().uid(NOBODY).gid(1234).groups([5, 6]);
    let (child, grandchild) = builder.spawn(who_and_whose::new()).unwrap().join().unwrap();
    assert_eq!(child.uids, "65534 65534 65534 65534");
    assert_eq!(child.gids, "1234 1234 1234 1234");
    assert_eq!(child.groups, "5 6");
    assert_eq!(child, grandchild);
}

#[offspring::worker]
fn start_another_user() -> String {
    // SAFETY: the list is as long as is said.
    assert_eq!(unsafe { libc::setgroups(2, [5, 6].as_ptr()) }, 0);
    ProcessBuilder::new().uid(NOBODY).spawn(who::new()).unwrap().join().unwrap().groups
}

#[offspring::test(timeout = "20s")]
fn who_leaves_root_leaves_its_groups() {
    if is_root() {
        assert_eq!(start_another_user::spawn().unwrap().join().unwrap(), "");
    }
}

#[offspring::test(timeout = "20s")]
fn what_needs_rights_comes_before_they_are_given_up() {
    let favoured = || ProcessBuilder::new().nice(-3);
    if let Err(error) = favoured().spawn(who::new()) {
        eprintln!("skipped: this root has no such rights: {error:?}");
        return;
    }
    let child = favoured().uid(NOBODY).spawn(who::new()).unwrap().join().unwrap();
    assert_eq!(child.nice, Who::am_i().nice - 3);
}

/// The errors of what it may not do, and the leaks.
#[offspring::worker]
fn ask_for_too_much() -> (Vec<String>, Census, Census) {
    answer::spawn().unwrap().join().unwrap();
    let before = Census::take();
    let builders = [
        ProcessBuilder::new().uid(0),
        ProcessBuilder::new().gid(0),
        ProcessBuilder::new().groups([0]),
        ProcessBuilder::new().nice(-5),
        ProcessBuilder::new().rlimit(Resource::OpenFiles, UNLIMITED, UNLIMITED),
        // SAFETY: the hook calls nothing.
        unsafe {
            ProcessBuilder::new().pre_exec(|| Err(io::Error::from_raw_os_error(libc::EXDEV)))
        },
        // SAFETY: it allocates nothing either.
        unsafe { ProcessBuilder::new().pre_exec(|| Err(io::ErrorKind::Other.into())) },
    ];
    let errors = builders.into_iter().map(|builder| match builder.spawn(answer::new()) {
        Err(SpawnError::Io { act, cause }) => {
            format!("{act}: {}", cause.raw_os_error().unwrap())
        }
        other => panic!("{other:?}"),
    });
    (errors.collect(), before, Census::take())
}

#[offspring::test(timeout = "20s")]
fn what_the_system_refuses_is_an_error_that_names_the_step() {
    if !is_root() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    std::os::unix::fs::chown(directory.path(), Some(NOBODY), Some(NOBODY)).unwrap();
    let builder = ProcessBuilder::new().uid(NOBODY).gid(NOBODY).env("TMPDIR", directory.path());
    let (errors, before, after) = builder.spawn(ask_for_too_much::new()).unwrap().join().unwrap();
    let (eperm, einval, exdev) = (libc::EPERM, libc::EINVAL, libc::EXDEV);
    let hook = "run a `pre_exec` hook in the new process";
    let limit = "set the limit OpenFiles of the new process to unlimited (hard limit unlimited)";
    assert_eq!(
        errors,
        [
            format!("set the user id of the new process: {eperm}"),
            format!("set the group id of the new process: {eperm}"),
            format!("set the groups of the new process: {eperm}"),
            format!("change the nice value of the new process: {}", libc::EACCES),
            format!("{limit}: {eperm}"),
            format!("{hook}: {exdev}"),
            format!("{hook}: {einval}"),
        ]
    );
    assert_eq!(after, before);
}

#[offspring::test(timeout = "20s")]
fn groups_and_sessions_are_its_own_where_that_is_asked_for() {
    let who = |builder: ProcessBuilder| builder.spawn(who::new()).unwrap().join().unwrap();
    let leads = |who: Who| (who.leads_group, who.leads_session);
    assert_eq!(leads(who(ProcessBuilder::new())), (false, false));
    assert_eq!(leads(who(ProcessBuilder::new().process_group(0))), (true, false));
    assert_eq!(leads(who(ProcessBuilder::new().new_session())), (true, true));
    assert_eq!(leads(who(ProcessBuilder::new().process_group(0).new_session())), (true, true));
    assert_eq!(leads(who(ProcessBuilder::new().new_session().process_group(0))), (true, false));
}

#[offspring::test(timeout = "20s")]
fn nice_value_and_mask_hold_for_a_child() {
    let here = Who::am_i();
    // Every mask, also one that takes the rights of the owner: its server is made with one of its
    // own.
    for mask in [0, 0o022, 0o077, 0o777] {
        let child =
            ProcessBuilder::new().nice(2).umask(mask).spawn(who::new()).unwrap().join().unwrap();
        assert_eq!(child.umask, format!("{mask:04o}"));
        assert_eq!(child.nice, here.nice + 2);
    }
    assert_eq!(Who::am_i(), here);
}

#[offspring::test(timeout = "20s")]
fn a_mask_that_takes_everything_stops_no_other_user() {
    if is_root() {
        let builder = ProcessBuilder::new().uid(NOBODY).gid(NOBODY).umask(0o777);
        // Its own child connects without root's rights.
        let (_, grandchild) = builder.spawn(who_and_whose::new()).unwrap().join().unwrap();
        assert_eq!(grandchild.umask, "0777");
    }
}

#[offspring::worker]
fn limits() -> String {
    std::fs::read_to_string("/proc/self/limits").unwrap()
}

#[offspring::test(timeout = "20s")]
fn every_limit_arrives() {
    let builder = ProcessBuilder::new()
        .rlimit(Resource::AddressSpace, 8 << 30, 9 << 30)
        .rlimit(Resource::Core, 0, 0)
        .rlimit(Resource::Cpu, 100, 200)
        .rlimit(Resource::Data, 7 << 30, 7 << 30)
        .rlimit(Resource::FileSize, 1 << 20, 2 << 20)
        .rlimit(Resource::LockedMemory, 4096, 4096)
        .rlimit(Resource::OpenFiles, 64, 128)
        .rlimit(Resource::Stack, 1 << 20, 2 << 20);
    let limits = builder.spawn(limits::new()).unwrap().join().unwrap();
    let of = |name: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        let mut words = line.split_whitespace();
        (words.next().unwrap().to_owned(), words.next().unwrap().to_owned())
    };
    let pair = |soft: u64, hard: u64| (soft.to_string(), hard.to_string());
    assert_eq!(of("Max address space"), pair(8 << 30, 9 << 30));
    assert_eq!(of("Max core file size"), pair(0, 0));
    assert_eq!(of("Max cpu time"), pair(100, 200));
    assert_eq!(of("Max data size"), pair(7 << 30, 7 << 30));
    assert_eq!(of("Max file size"), pair(1 << 20, 2 << 20));
    assert_eq!(of("Max locked memory"), pair(4096, 4096));
    assert_eq!(of("Max open files"), pair(64, 128));
    assert_eq!(of("Max stack size"), pair(1 << 20, 2 << 20));
}

#[offspring::worker]
fn take_memory(bytes: usize) -> usize {
    // Else nothing is taken in release.
    std::hint::black_box(vec![1u8; bytes]).len()
}

#[offspring::test(timeout = "20s")]
fn a_child_beyond_its_memory_ends_alone() {
    let limited = || {
        ProcessBuilder::new()
            .rlimit(Resource::AddressSpace, 1 << 30, 1 << 30)
            .rlimit(Resource::Core, 0, 0)
            .stderr(Stdio::null())
    };
    assert_eq!(limited().spawn(take_memory::new(1 << 20)).unwrap().join().unwrap(), 1 << 20);
    let error = limited().spawn(take_memory::new(2 << 30)).unwrap().join().unwrap_err();
    assert!(
        matches!(error.reason(), Some(ExitReason::Signaled { signal: libc::SIGABRT, .. })),
        "{error}"
    );
}

#[offspring::worker]
fn compute_for_ever() {
    loop {
        std::hint::black_box(0);
    }
}

#[offspring::test(timeout = "20s")]
fn a_child_beyond_its_time_is_ended_by_the_system() {
    let builder = ProcessBuilder::new().rlimit(Resource::Cpu, 1, 5).rlimit(Resource::Core, 0, 0);
    let error = builder.spawn(compute_for_ever::new()).unwrap().join().unwrap_err();
    assert!(
        matches!(error.reason(), Some(ExitReason::Signaled { signal: libc::SIGXCPU, .. })),
        "{error}"
    );
}

#[offspring::test(timeout = "30s")]
fn limits_that_no_start_survives_are_an_error() {
    for files in 0..16 {
        let builder =
            ProcessBuilder::new().rlimit(Resource::OpenFiles, files, files).stderr(Stdio::null());
        if let Ok(child) = builder.spawn(answer::new()) {
            // Enough for the start; the rest may not be.
            let _ = child.join();
        }
    }
    let builder = ProcessBuilder::new()
        .rlimit(Resource::AddressSpace, 1 << 20, 1 << 20)
        .stderr(Stdio::null());
    builder.spawn(answer::new()).unwrap_err();
}

#[offspring::worker]
fn first_argument() -> String {
    std::env::args().next().unwrap()
}

#[offspring::test(timeout = "20s")]
fn the_first_argument_can_be_chosen() {
    let child =
        ProcessBuilder::new().arg0("worker of the test").spawn(first_argument::new()).unwrap();
    assert_eq!(child.join().unwrap(), "worker of the test");
}

#[offspring::test(timeout = "20s")]
fn hooks_run_in_order_after_all_else() {
    // SAFETY: the hooks make system calls only.
    let builder = unsafe {
        ProcessBuilder::new()
            .umask(0o022)
            .pre_exec(|| {
                (libc::umask(0o027) == 0o022).then_some(()).ok_or(io::ErrorKind::Other.into())
            })
            .pre_exec(|| {
                (libc::umask(0o037) == 0o027).then_some(()).ok_or(io::ErrorKind::Other.into())
            })
    };
    assert_eq!(builder.spawn(who::new()).unwrap().join().unwrap().umask, "0037");
}

//! Kernels that lack something, and what is not a sandbox.

use offspring::process::{Backend, Protection, Sandbox};
use offspring::unix::ProcessBuilderExt;
use offspring::{ProcessBuilder, SpawnError};
use seccompiler::{BpfProgram, SeccompAction, SeccompFilter};

use super::{caged, caged_in};

#[offspring::worker]
fn can_open() -> (bool, bool) {
    (std::fs::read("/etc/passwd").is_ok(), std::fs::read("/etc/group").is_ok())
}

/// A builder of workers for which this system call does not exist.
fn without(call: libc::c_long, builder: ProcessBuilder) -> ProcessBuilder {
    let missing = SeccompAction::Errno(libc::ENOSYS as u32);
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let rules = [(call, Vec::new())].into_iter().collect();
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, missing, arch).unwrap();
    let program = BpfProgram::try_from(filter).unwrap();
    // SAFETY: the hook makes two system calls, and allocates nothing.
    unsafe {
        builder.pre_exec(move || {
            seccompiler::apply_filter(&program).map_err(|_| std::io::Error::from_raw_os_error(1))
        })
    }
}

#[offspring::test(timeout = "30s")]
fn a_kernel_without_landlock_is_an_error_that_names_it() {
    let call = libc::SYS_landlock_create_ruleset;
    let error = without(call, caged()).spawn(can_open::new()).unwrap_err();
    let SpawnError::Sandbox { missing: Protection::Files, .. } = &error else { panic!("{error}") };
    assert!(error.to_string().contains("Landlock"), "{error}");
}

#[offspring::test(timeout = "30s")]
fn a_kernel_without_filters_is_an_error_that_names_them() {
    let error = without(libc::SYS_seccomp, caged()).spawn(can_open::new()).unwrap_err();
    let SpawnError::Sandbox { missing: Protection::SystemCalls, .. } = &error else {
        panic!("{error}")
    };
    assert!(error.to_string().contains("seccomp"), "{error}");
}

#[offspring::test(timeout = "30s")]
fn a_best_effort_says_what_is_missing_and_applies_the_rest() {
    let plan = || Sandbox::fields_only().best_effort();
    let complete = caged_in(plan()).spawn(can_open::new()).unwrap();
    assert!(complete.sandbox().unwrap().is_complete());
    assert_eq!(complete.sandbox().unwrap().to_string(), "complete");
    assert_eq!(complete.join().unwrap(), (false, false));

    // The filter opens nothing.
    let call = libc::SYS_landlock_create_ruleset;
    let worker = without(call, caged_in(plan())).spawn(can_open::new()).unwrap();
    let missing: Vec<_> = worker.sandbox().unwrap().missing().map(|(part, _)| part).collect();
    assert_eq!(missing, [Protection::Files]);
    assert_eq!(worker.join().unwrap(), (false, false));

    // Landlock opens nothing.
    let worker = without(libc::SYS_seccomp, caged_in(plan())).spawn(can_open::new()).unwrap();
    let missing: Vec<_> = worker.sandbox().unwrap().missing().map(|(part, _)| part).collect();
    assert_eq!(missing, [Protection::SystemCalls]);
    assert!(worker.sandbox().unwrap().to_string().starts_with("without a filter"));
    assert_eq!(worker.join().unwrap(), (false, false));
}

#[offspring::test(timeout = "30s")]
fn a_worker_without_a_sandbox_has_none() {
    let worker = ProcessBuilder::new().spawn(can_open::new()).unwrap();
    assert!(worker.sandbox().is_none());
    assert_eq!(worker.join().unwrap(), (true, true));
}

#[offspring::test(timeout = "30s")]
fn what_no_kernel_can_do_starts_nothing() {
    let on_a_thread = caged().backend(Backend::Inline).spawn(can_open::new()).unwrap_err();
    assert!(matches!(on_a_thread, SpawnError::InvalidOption { option: "sandbox", .. }));
    let two = Sandbox::fields_only().network_namespace().connect_tcp(80);
    let cut_off = caged_in(two).spawn(can_open::new()).unwrap_err();
    assert!(matches!(cut_off, SpawnError::InvalidOption { option: "sandbox", .. }));
}

#[offspring::test(timeout = "30s")]
fn a_path_that_does_not_exist_is_an_error_that_names_it() {
    let sandbox = Sandbox::fields_only().read("/there/is/none");
    let error = caged_in(sandbox.best_effort()).spawn(can_open::new()).unwrap_err();
    assert!(matches!(error, SpawnError::Failed { .. }), "{error}");
    assert!(error.to_string().contains("`/there/is/none` cannot be opened"), "{error}");
}

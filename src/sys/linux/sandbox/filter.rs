//! The filter of system calls (seccomp).

use std::collections::BTreeMap;

use libc::c_long;
use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition,
    SeccompFilter, SeccompRule, sock_filter,
};

use super::calls::{
    ABSENT, ARGUMENTS, Allowed, Arg, CALLS, OLD_CALLS, STAT_OF_DESCRIPTOR, UNKNOWN_FROM,
};

/// Filters the system calls of all threads of this process, for ever. The error names what the
/// kernel lacks.
pub(super) fn apply(allowed: Allowed) -> Result<(), String> {
    let program = program(allowed).map_err(|error| error.to_string())?;
    seccompiler::apply_filter_all_threads(&program).map_err(|error| match error {
        seccompiler::Error::Seccomp(error) | seccompiler::Error::Prctl(error) => error.to_string(),
        seccompiler::Error::ThreadSync(thread) => {
            format!("thread {thread} has a filter of its own")
        }
        other => other.to_string(),
    })
}

type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

fn program(allowed: Allowed) -> Result<BpfProgram, BackendError> {
    let mut rules = Rules::new();
    let absent = ABSENT.iter().filter(|(need, _)| need.is_met(allowed)).map(|&(_, call)| call);
    let absent: Vec<c_long> = absent.collect();
    for (call, arguments) in arguments(allowed) {
        let conditions = arguments.iter().map(|&argument| condition(argument));
        let rule = SeccompRule::new(conditions.collect::<Result<_, _>>()?)?;
        rules.entry(call).or_default().push(rule);
    }
    for (need, calls) in CALLS.iter().chain(OLD_CALLS) {
        if need.is_met(allowed) {
            // A call without rules is allowed with any arguments.
            rules.extend(calls.iter().map(|&call| (call, Vec::new())));
        }
    }
    let stop = match allowed.deadly {
        true => SeccompAction::Trap,
        false => SeccompAction::Errno(libc::EPERM as u32),
    };
    let arch = std::env::consts::ARCH.try_into()?;
    let filter = SeccompFilter::new(rules, stop, SeccompAction::Allow, arch)?;
    let mut program = absent_first(&absent);
    program.extend(BpfProgram::try_from(filter)?);
    Ok(program)
}

fn arguments(allowed: Allowed) -> impl Iterator<Item = (c_long, &'static [Arg])> {
    let met = ARGUMENTS.iter().filter(move |(need, ..)| need.is_met(allowed));
    let stat = (!allowed.paths && fstat_takes_paths()).then_some(STAT_OF_DESCRIPTOR);
    met.map(|&(_, call, arguments)| (call, arguments)).chain(stat)
}

fn condition(argument: Arg) -> Result<SeccompCondition, BackendError> {
    use SeccompCmpArgLen::{Dword, Qword};
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    match argument {
        Arg::Is(index, value) => SeccompCondition::new(index, Dword, Eq, value.into()),
        Arg::IsNot(index, value) => SeccompCondition::new(index, Dword, Ne, value.into()),
        Arg::Bits(index, mask, value) => {
            SeccompCondition::new(index, Dword, MaskedEq(mask.into()), value.into())
        }
        Arg::Null(index) => SeccompCondition::new(index, Qword, Eq, 0),
        Arg::Own(index) => SeccompCondition::new(index, Dword, Eq, std::process::id().into()),
    }
}

/// Returns the beginning of a program, which reports these calls, and those that are too new, as
/// missing.
fn absent_first(absent: &[c_long]) -> BpfProgram {
    const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    const IF_FROM: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
    const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;
    let step = |code, k, jf| sock_filter { code, jt: 0, jf, k };
    let missing = step(RETURN, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32, 0);
    // The number of the call is the first field of what a filter sees. A condition that does not
    // hold skips one step.
    let mut program =
        vec![step(LOAD, 0, 0), step(IF_FROM, UNKNOWN_FROM as u32, 1), missing.clone()];
    for &call in absent {
        program.extend([step(IF_EQUAL, call as u32, 1), missing.clone()]);
    }
    program
}

/// Returns whether the C library's `fstat` makes the call for paths: glibc's did until 2.39.
#[cfg(target_env = "gnu")]
fn fstat_takes_paths() -> bool {
    // SAFETY: returns a string that lives as long as the program.
    let version = unsafe { std::ffi::CStr::from_ptr(libc::gnu_get_libc_version()) };
    let minor = version.to_str().ok().and_then(|text| text.split('.').nth(1)?.parse::<u32>().ok());
    minor.is_none_or(|minor| minor < 39)
}

#[cfg(not(target_env = "gnu"))]
fn fstat_takes_paths() -> bool {
    false
}

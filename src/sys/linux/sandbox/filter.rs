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

/// The filter's answer to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Stop,
    /// The call is reported as missing.
    Absent,
    Allow,
    /// Some rule of this call must hold.
    ByArguments(c_long),
}

/// The rules of the calls whose arguments decide.
type Rules = BTreeMap<c_long, Vec<SeccompRule>>;

/// Makes the program. seccompiler would compare the number of a call with one number after the
/// other. The kernel runs a new filter for each number that there is, to learn which are allowed
/// whatever their arguments are, and this would be half the time of a start. So the number is
/// searched for, and seccompiler only makes the rules for arguments.
fn program(allowed: Allowed) -> Result<BpfProgram, BackendError> {
    let mut rules = Rules::new();
    for (call, arguments) in arguments(allowed) {
        let conditions = arguments.iter().map(|&argument| condition(argument));
        let rule = SeccompRule::new(conditions.collect::<Result<_, _>>()?)?;
        rules.entry(call).or_default().push(rule);
    }
    let stop = match allowed.deadly {
        true => SeccompAction::Trap,
        false => SeccompAction::Errno(libc::EPERM as u32),
    };
    let arch = std::env::consts::ARCH.try_into()?;
    // Without rules, it checks the architecture and then stops the call.
    let frame = SeccompFilter::new(Rules::new(), stop.clone(), SeccompAction::Allow, arch)?;
    let mut program = BpfProgram::try_from(frame)?;
    program.pop();
    // The number of the call is the first field of what a filter sees.
    program.push(step(LOAD, 0));
    search(&ranges(&rules, allowed), &rules, &stop, &mut program);
    Ok(program)
}

/// Returns the first number of each range of calls with the same verdict. The first range begins
/// with 0, and the last one has no end.
fn ranges(rules: &Rules, allowed: Allowed) -> Vec<(usize, Verdict)> {
    // The later entries win.
    let mut verdicts = [Verdict::Stop; UNKNOWN_FROM as usize + 1];
    for &call in rules.keys() {
        verdicts[call as usize] = Verdict::ByArguments(call);
    }
    for (_, calls) in CALLS.iter().chain(OLD_CALLS).filter(|(need, _)| need.is_met(allowed)) {
        calls.iter().for_each(|&call| verdicts[call as usize] = Verdict::Allow);
    }
    for &(_, call) in ABSENT.iter().filter(|(need, _)| need.is_met(allowed)) {
        verdicts[call as usize] = Verdict::Absent;
    }
    verdicts[UNKNOWN_FROM as usize] = Verdict::Absent;
    let mut ranges: Vec<(usize, Verdict)> = verdicts.into_iter().enumerate().collect();
    ranges.dedup_by_key(|(_, verdict)| *verdict);
    ranges
}

/// Adds the steps that find the range of the loaded number, by halves, and carry out its verdict.
fn search(
    ranges: &[(usize, Verdict)],
    rules: &Rules,
    stop: &SeccompAction,
    program: &mut BpfProgram,
) {
    if let [(_, verdict)] = ranges {
        return finish(*verdict, rules, stop, program);
    }
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let at = program.len();
    program.push(step(IF_FROM, upper[0].0 as u32));
    search(lower, rules, stop, program);
    let length = program.len() - at - 1;
    match u8::try_from(length) {
        Ok(length) => program[at].jt = length,
        // Too far for a condition.
        Err(_) => {
            program[at].jf = 1;
            program.insert(at + 1, step(JUMP, length as u32));
        }
    }
    search(upper, rules, stop, program);
}

/// Adds the steps that carry out a verdict.
fn finish(verdict: Verdict, rules: &Rules, stop: &SeccompAction, program: &mut BpfProgram) {
    let end = |action: SeccompAction| step(RETURN, action.into());
    match verdict {
        Verdict::Stop => program.push(end(stop.clone())),
        Verdict::Absent => program.push(end(SeccompAction::Errno(libc::ENOSYS as u32))),
        Verdict::Allow => program.push(end(SeccompAction::Allow)),
        Verdict::ByArguments(call) => {
            for rule in &rules[&call] {
                program.extend(BpfProgram::from(rule.clone()));
                // A rule that does not hold jumps over this step.
                program.push(end(SeccompAction::Allow));
            }
            program.push(end(stop.clone()));
        }
    }
}

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const IF_FROM: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const JUMP: u16 = (libc::BPF_JMP | libc::BPF_JA) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

fn step(code: u16, k: u32) -> sock_filter {
    sock_filter { code, jt: 0, jf: 0, k }
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A call, as a filter sees it.
    struct Call {
        number: u32,
        arch: u32,
        arguments: [u64; 6],
    }

    impl Call {
        fn word(&self, offset: u32) -> u32 {
            match offset {
                0 => self.number,
                4 => self.arch,
                _ => {
                    let bytes = (offset - 16) as usize;
                    (self.arguments[bytes / 8] >> (bytes % 8 * 8)) as u32
                }
            }
        }
    }

    /// Runs a program, and returns its answer to the kernel.
    fn run(program: &[sock_filter], call: &Call) -> u32 {
        const MASK: u16 = (libc::BPF_ALU | libc::BPF_AND | libc::BPF_K) as u16;
        const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
        let (mut word, mut next) = (0, 0);
        loop {
            let step = &program[next];
            let branch = |holds: bool| usize::from(if holds { step.jt } else { step.jf });
            next += 1;
            match step.code {
                LOAD => word = call.word(step.k),
                MASK => word &= step.k,
                IF_EQUAL => next += branch(word == step.k),
                IF_FROM => next += branch(word >= step.k),
                JUMP => next += step.k as usize,
                RETURN => return step.k,
                other => panic!("step {other:#x}"),
            }
        }
    }

    /// Returns the answer that follows from the tables, without a program.
    fn expected(call: &Call, allowed: Allowed) -> u32 {
        let number = c_long::from(call.number);
        let absent = ABSENT.iter().any(|&(need, absent)| absent == number && need.is_met(allowed));
        if absent || number >= UNKNOWN_FROM {
            return libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
        }
        let mut tables = CALLS.iter().chain(OLD_CALLS);
        let listed = tables.any(|(need, calls)| need.is_met(allowed) && calls.contains(&number));
        let holds = |argument: &Arg| {
            let word = |index: u8| call.arguments[usize::from(index)] as u32;
            match *argument {
                Arg::Is(index, value) => word(index) == value,
                Arg::IsNot(index, value) => word(index) != value,
                Arg::Bits(index, mask, value) => word(index) & mask == value,
                Arg::Null(index) => call.arguments[usize::from(index)] == 0,
                Arg::Own(index) => word(index) == std::process::id(),
            }
        };
        let by_arguments = arguments(allowed)
            .any(|(ruled, arguments)| ruled == number && arguments.iter().all(holds));
        match (listed || by_arguments, allowed.deadly) {
            (true, _) => libc::SECCOMP_RET_ALLOW,
            (false, true) => libc::SECCOMP_RET_TRAP,
            (false, false) => libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
        }
    }

    fn every_plan() -> impl Iterator<Item = Allowed> {
        (0..32_u8).map(|bits| Allowed {
            paths: bits & 1 != 0,
            changes: bits & 2 != 0,
            tcp: bits & 4 != 0,
            programs: bits & 8 != 0,
            deadly: bits & 16 != 0,
        })
    }

    /// The architecture that a program accepts.
    fn own_arch(program: &[sock_filter]) -> u32 {
        program[1].k
    }

    /// Each word that a rule of this call compares with, what is next to it, and what differs from
    /// it in the upper half only.
    fn words_for(call: c_long) -> Vec<u64> {
        let mut words = vec![0, u64::from(std::process::id())];
        for (.., arguments) in ARGUMENTS.iter().filter(|(_, ruled, _)| *ruled == call) {
            for argument in *arguments {
                match *argument {
                    Arg::Is(_, value) | Arg::IsNot(_, value) => words.push(value.into()),
                    Arg::Bits(_, mask, value) => words.extend([u64::from(mask), u64::from(value)]),
                    Arg::Null(_) | Arg::Own(_) => {}
                }
            }
        }
        let near: BTreeSet<u64> =
            words.into_iter().flat_map(|word| [word, word ^ 1, word | 1 << 40]).collect();
        near.into_iter().collect()
    }

    #[test]
    fn a_program_decides_as_the_tables_say() {
        for allowed in every_plan() {
            let program = program(allowed).unwrap();
            let arch = own_arch(&program);
            let past = UNKNOWN_FROM as u32 + 3;
            for number in (0..past).chain([512, 1 << 30, 1 << 31, u32::MAX]) {
                let words = words_for(number.into());
                for (&first, &second) in
                    words.iter().flat_map(|first| words.iter().map(move |second| (first, second)))
                {
                    let arguments = [first, second, second, first, second, first];
                    let call = Call { number, arch, arguments };
                    assert_eq!(
                        run(&program, &call),
                        expected(&call, allowed),
                        "call {number} with {arguments:x?} where {allowed:?}"
                    );
                }
            }
        }
    }

    #[test]
    fn a_call_of_another_architecture_ends_the_process() {
        let program = program(Allowed::default()).unwrap();
        let arch = own_arch(&program) ^ 1;
        let call = Call { number: libc::SYS_getpid as u32, arch, arguments: [0; 6] };
        assert_eq!(run(&program, &call), libc::SECCOMP_RET_KILL_PROCESS);
    }

    /// The kernel runs a new filter for every number.
    #[test]
    fn a_program_finds_a_call_in_few_steps() {
        for allowed in every_plan() {
            let program = program(allowed).unwrap();
            assert!(program.len() < 600, "{} steps where {allowed:?}", program.len());
        }
    }
}

//! Constructors: functions that the C runtime calls before `main`, in the order of the linker.

use std::ffi::{c_char, c_int};

/// A constructor. glibc passes the arguments of `main`; other C libraries pass nothing.
pub type Constructor = unsafe extern "C" fn(c_int, *const *const c_char, *const *const c_char);

/// Runs the constructors of this program that come after the one in the slot `own`. They would run
/// after it anyway.
///
/// Generic, so that only a program that calls it refers to the symbol at the end of the
/// constructors, which a shared library may lack.
///
/// # Safety
///
/// `own` is a static in the section `.init_array`, and is the constructor that runs now. It must
/// not return, or the others run twice.
pub unsafe fn constructors_after<T>(
    own: &'static Constructor,
    argc: c_int,
    argv: *const *const c_char,
    envp: *const *const c_char,
) {
    unsafe extern "C" {
        static __init_array_end: [Constructor; 0];
    }
    let end = (&raw const __init_array_end).cast::<Constructor>();
    let mut slot: *const Constructor = own;
    loop {
        slot = slot.wrapping_add(1);
        if slot >= end {
            return;
        }
        // SAFETY: the linker puts all constructors into one array, and `own` is in it. They are
        // called as the C runtime would call them.
        unsafe { (*slot)(argc, argv, envp) };
    }
}

/// Calls [`init`](crate::init) before `main`, for a program whose `main` is not yours: plain `#[test]`s,
/// criterion, a framework with an entry macro. Put it once into the program, where an item can be;
/// for tests, into each test file that starts processes.
///
/// ```standalone_crate
/// offspring::init_before_main!();
///
/// #[offspring::worker]
/// fn double(n: u64) -> u64 {
///     n * 2
/// }
///
/// fn main() {
///     assert_eq!(double::spawn(4).unwrap().join().unwrap(), 8);
/// }
/// ```
///
/// A child then never enters `main`: its worker runs among the constructors of the program, after
/// all others. The cost in a child, compared with `#[offspring::main]`:
///
/// - Rust's runtime is not set up: a stack overflow of the main thread is a plain SIGSEGV, without
///   the message, and the main thread has no name, so a panic names it `<unnamed>`.
/// - With a C library other than glibc, `std::env::args` is empty in a child.
/// - In the main program `init` runs before `main` too, so a program that ends without needing a
///   child pays some microseconds.
///
/// At its end, a program with this macro waits for its children, even if it is a test harness. Join
/// them, or make them daemons.
///
/// It works in executables, not in shared libraries: a host loads those at any time.
#[macro_export]
macro_rules! init_before_main {
    () => {
        const _: () = {
            #[used]
            #[unsafe(link_section = ".init_array")]
            static SLOT: $crate::__private::Constructor = before_main;

            unsafe extern "C" fn before_main(
                argc: ::core::ffi::c_int,
                argv: *const *const ::core::ffi::c_char,
                envp: *const *const ::core::ffi::c_char,
            ) {
                // SAFETY: the slot is in the array of constructors, this is its constructor, and
                // `before_main` does not return after it has called this.
                $crate::__private::before_main(|| unsafe {
                    $crate::__private::constructors_after::<()>(&SLOT, argc, argv, envp);
                });
            }
        };
    };
}

/// Makes a write to a closed pipe an error, not the end of the process, as std does before `main`.
pub(crate) fn ignore_broken_pipes() {
    // SAFETY: sets a disposition to a constant.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_IGN) };
}

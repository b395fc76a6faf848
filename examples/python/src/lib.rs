//! A library for Python's `ctypes` whose work runs in other processes: a crash costs the file at
//! which it happens, not the Python program. `count_words.py` uses it.

use std::ffi::{CStr, CString, c_char};
use std::fs;
use std::sync::Mutex;

use offspring::Pool;

/// What a child runs instead of the script: it loads this library, and `host_init` runs its worker.
const CHILD: &str = "import ctypes, sys; ctypes.CDLL(sys.argv[1]).host_init(None)";

static POOL: Mutex<Option<Pool>> = Mutex::new(None);
static ERROR: Mutex<Option<CString>> = Mutex::new(None);

#[offspring::worker]
fn count(path: String) -> Result<u64, String> {
    let text = fs::read(&path).map_err(|error| format!("{path}: {error}"))?;
    if text.starts_with(b"crash") {
        std::process::abort(); // what a broken C library does
    }
    Ok(text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).count() as u64)
}

/// Makes this process ready to start workers, which load the library from `path`. Returns 0, or -1
/// after an error. In a worker's process, runs the worker, and does not return.
///
/// # Safety
///
/// `path` is a string that ends with a NUL byte, or null in a worker's process.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn host_init(path: *const c_char) -> i64 {
    offspring::init();
    // SAFETY: the caller's promise.
    let path = unsafe { text(path) };
    let pool = Pool::builder()
        .workers(2)
        .process(move |_, process| process.args(["-c", CHILD, &path]))
        .build();
    match pool {
        Ok(pool) => {
            *POOL.lock().unwrap() = Some(pool);
            0
        }
        Err(error) => fail(error),
    }
}

/// Returns how many words the file has, or -1 after an error, which `last_error` tells.
///
/// # Safety
///
/// `path` is a string that ends with a NUL byte.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn count_words(path: *const c_char) -> i64 {
    // SAFETY: the caller's promise.
    let path = unsafe { text(path) };
    // The lock is free while the task runs, so that threads of the script count in parallel.
    let task = match &*POOL.lock().unwrap() {
        Some(pool) => pool.submit(count::new(path)),
        None => return fail("call `host_init` first"),
    };
    match task.map(|task| task.join()) {
        Ok(Ok(Ok(words))) => words as i64,
        Ok(Ok(Err(error))) => fail(error),
        Ok(Err(error)) => fail(error),
        Err(error) => fail(error),
    }
}

/// Returns the last error, up to the next call that fails.
#[unsafe(no_mangle)]
pub extern "C" fn last_error() -> *const c_char {
    ERROR.lock().unwrap().as_ref().map_or(std::ptr::null(), |error| error.as_ptr())
}

/// Ends the workers. Call it at the end of the script.
#[unsafe(no_mangle)]
pub extern "C" fn host_end() {
    let pool = POOL.lock().unwrap().take();
    drop(pool);
}

fn fail(error: impl ToString) -> i64 {
    *ERROR.lock().unwrap() = CString::new(error.to_string().replace('\0', "\\0")).ok();
    -1
}

/// # Safety
///
/// `text` is null, or ends with a NUL byte.
unsafe fn text(text: *const c_char) -> String {
    if text.is_null() {
        return String::new();
    }
    // SAFETY: the caller's promise.
    unsafe { CStr::from_ptr(text) }.to_string_lossy().into_owned()
}

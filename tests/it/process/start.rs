#[offspring::worker]
fn answer() -> u32 { 42 }
#[offspring::test(timeout = "20s")]
fn smoke() { assert_eq!(answer::spawn().unwrap().join().unwrap(), 42); }

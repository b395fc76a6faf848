//! A `main` that a macro of another crate writes, as criterion's does.

use jobs::double;

offspring::init_before_main!();

macro_rules! bench_main {
    ($($bench:path),+) => {
        fn main() {
            println!("benches");
            $($bench();)+
        }
    };
}

fn round_trip() {
    println!("{}", double::spawn(8).unwrap().join().unwrap());
}

bench_main!(round_trip);

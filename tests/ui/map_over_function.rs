#[offspring::worker]
fn square(n: u64) -> u64 {
    n * n
}

fn main() {
    let pool = offspring::Pool::new(2).unwrap();
    let _ = pool.map(0..4, square);
}

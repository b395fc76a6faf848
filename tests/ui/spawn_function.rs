#[offspring::worker]
fn square(n: u64) -> u64 {
    n * n
}

fn main() {
    let _ = offspring::ProcessBuilder::new().spawn(square);
}

#[offspring::worker]
fn limit(bytes: u64, #[cfg(unix)] group: u32) -> u64 {
    bytes * u64::from(group)
}

fn main() {
    let _ = limit(1, 2);
}

#[offspring::worker(name = "clock", name = "watch")]
fn clock(ticks: u32) -> u32 {
    ticks
}

fn main() {
    let _ = clock::spawn(5);
}

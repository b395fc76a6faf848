#[offspring::worker(nme = "clock")]
fn clock(ticks: u32) -> u32 {
    ticks
}

fn main() {
    let _ = clock::spawn(5);
}

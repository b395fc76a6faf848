#[offspring::worker(name = "tick_tock_tick_tock_tick_tock_tick_tock_tick_tock_tick_tock_tick_tock_tick_tock_tick_tock_tick_tock_tick_tock_tick_tock_tick_tock_tick_tock_tick_tock_tick_tock_tick_tock_tick_tock_tick_tock_tick_tock_!")]
fn clock(ticks: u32) -> u32 {
    ticks
}

fn main() {
    let _ = clock::spawn(5);
}

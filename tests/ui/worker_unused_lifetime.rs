#[offspring::worker]
fn idle<'a>() {}

fn main() {
    let _ = idle::spawn();
}

#[offspring::worker]
struct Idle;

fn main() {
    let _ = Idle;
}

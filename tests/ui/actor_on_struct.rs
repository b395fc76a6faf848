#[offspring::actor]
struct Counter(u64);

fn main() {
    let _ = Counter(0).0;
}

#[offspring::worker]
fn count(items: impl Iterator<Item = u8>) -> impl Send {
    items.count()
}

fn main() {
    let _ = count::spawn([1].into_iter());
}

struct Counter(u64);

#[offspring::actor]
impl Default for Counter {
    fn default() -> Self {
        Counter(0)
    }
}

fn main() {
    let _ = Counter::default().0;
}

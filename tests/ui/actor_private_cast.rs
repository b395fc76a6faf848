struct Counter(u64);

#[offspring::actor]
impl Counter {
    fn start() -> Self {
        Counter(0)
    }

    #[cast]
    fn add(&mut self, n: u64) {
        self.0 += n;
    }
}

fn main() {}

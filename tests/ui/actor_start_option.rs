struct Counter(u64);

#[offspring::actor]
impl Counter {
    fn start(value: u64) -> Option<Self> {
        (value > 0).then_some(Counter(value))
    }

    pub fn add(&mut self, n: u64) {
        self.0 += n;
    }
}

fn main() {}

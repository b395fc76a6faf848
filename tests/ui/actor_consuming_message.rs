struct Counter(u64);

#[offspring::actor]
impl Counter {
    fn start() -> Self {
        Counter(0)
    }

    pub fn finish(self) -> u64 {
        self.0
    }
}

fn main() {}

struct Counter(u64);

#[offspring::actor]
impl Counter {
    fn start() -> Self {
        Counter(0)
    }

    #[cast]
    pub fn add(&mut self, n: u64) -> u64 {
        self.0 += n;
        self.0
    }
}

fn main() {}

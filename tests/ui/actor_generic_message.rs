struct Counter(u64);

#[offspring::actor]
impl Counter {
    fn start() -> Self {
        Counter(0)
    }

    pub fn add<N: Into<u64>>(&mut self, n: N) {
        self.0 += n.into();
    }
}

fn main() {}

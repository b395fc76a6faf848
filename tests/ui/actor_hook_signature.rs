struct Counter(u64);

#[offspring::actor]
impl Counter {
    fn start() -> Self {
        Counter(0)
    }

    pub fn stop(&mut self) {
        self.0 = 0;
    }

    #[cast]
    pub fn checkpoint(&mut self, value: u64) {
        self.0 = value;
    }
}

fn main() {}

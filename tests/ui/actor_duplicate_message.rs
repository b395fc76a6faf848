struct Counter(u64);

#[offspring::actor]
impl Counter {
    fn start() -> Self {
        Counter(0)
    }

    pub fn get(&self) -> u64 {
        self.0
    }

    pub fn get_(&self) -> u64 {
        self.0
    }
}

fn main() {}

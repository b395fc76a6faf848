struct Counter(u64);

#[offspring::actor]
impl Counter {
    fn start() -> Self {
        Counter(0)
    }

    pub fn add(&mut self, (a, b): (u64, u64)) {
        self.0 += a + b;
    }

    pub unsafe fn set(&mut self, value: u64) {
        self.0 = value;
    }
}

fn main() {}

struct Counter(u64);

#[offspring::actor]
impl Counter {
    fn start() -> Self {
        Counter(0)
    }

    pub fn take_over(&mut self, other: Vec<Self>) {
        self.0 = other.len() as u64;
    }
}

fn main() {}

use offspring::actor::Checkpoint;

struct Counter(u64);

#[offspring::actor]
impl Counter {
    fn start() -> Self {
        Counter(0)
    }

    fn checkpoint(&mut self) -> Option<Checkpoint> {
        None
    }

    pub fn add(&mut self, n: u64) {
        self.0 += n;
    }
}

fn main() {}

struct Counter(u64);

#[offspring::actor]
impl Counter {
    fn start(&mut self) {
        self.0 = 0;
    }
}

fn main() {}

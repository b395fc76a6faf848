struct Counter(u64);

#[offspring::actor]
impl Counter {
    pub fn get(&self) -> u64 {
        self.0
    }
}

fn main() {}

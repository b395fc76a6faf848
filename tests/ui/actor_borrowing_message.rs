struct Counter(u64);

#[offspring::actor]
impl Counter {
    fn start() -> Self {
        Counter(0)
    }

    pub fn name(&self) -> &str {
        "counter"
    }

    pub fn add(&mut self, text: &str) {
        self.0 += text.len() as u64;
    }
}

fn main() {}

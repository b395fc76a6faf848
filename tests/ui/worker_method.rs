struct Clock {
    ticks: u32,
}

impl Clock {
    #[offspring::worker]
    fn run(&self) -> u32 {
        self.ticks
    }
}

fn main() {
    Clock { ticks: 5 }.run();
}
